/* Virtual tables that lead to Python objects with the methods that APSW calls. */
#define _GNU_SOURCE
#include "extension.h"

#include <stdlib.h>
#include <string.h>

typedef struct Table { /* sqlite3_vtab */
  const void *module;
  int references;
  char *error;
  PyObject *object;
  Host *host;
} Table;

typedef struct Cursor { /* sqlite3_vtab_cursor */
  Table *table;
  PyObject *object, *column, *next, *at_end;
  int ended;
} Cursor;

static int fail_table(Table *table) {
  char *text = NULL;
  int code = raised(table->host, &text);
  sqlite.free(table->error);
  table->error = sqlite.mprintf("%s", text ? text : "out of memory");
  free(text);
  return code;
}

static int connect_table(sqlite3 *database, void *given, int count, const char *const *texts, Table **out, char **error) {
  Target *target = given;
  if (!python_alive()) return ERROR;
  int state = py.PyGILState_Ensure(), code = OK;
  Table *table = calloc(1, sizeof *table); /* SQLite sets what is its own */
  PyObject *arguments = py.PyTuple_New(count + 1), *method = NULL, *made = NULL, *object = NULL;
  const char *schema = NULL;
  int good = table && arguments;
  if (good) {
    py.Py_IncRef(py.None); /* the connection, which nobody needs */
    py.PyTuple_SetItem(arguments, 0, py.None);
  }
  for (int at = 0; good && at < count; at++) {
    PyObject *text = py.PyUnicode_DecodeUTF8(texts[at], (ptrdiff_t)strlen(texts[at]), NULL);
    good = text && !py.PyTuple_SetItem(arguments, at + 1, text);
  }
  if (good) method = py.PyObject_GetAttrString(target->object, "Connect");
  if (method) made = py.PyObject_CallObject(method, arguments);
  if (made && py.PyArg_ParseTuple(made, "sO", &schema, &object)) {
    code = sqlite.declare_vtab(database, schema);
    if (code == OK) {
      py.Py_IncRef(object);
      table->object = object;
      table->host = target->host;
      *out = table;
    }
  } else {
    char *text = NULL;
    code = raised(target->host, &text);
    *error = sqlite.mprintf("%s", text ? text : "out of memory");
    free(text);
  }
  if (code != OK) free(table);
  if (made) py.Py_DecRef(made);
  if (method) py.Py_DecRef(method);
  if (arguments) py.Py_DecRef(arguments);
  py.PyGILState_Release(state);
  return code;
}

static int disconnect_table(Table *table) {
  if (python_alive()) {
    int state = py.PyGILState_Ensure();
    py.Py_DecRef(table->object);
    py.PyGILState_Release(state);
  }
  free(table);
  return OK;
}

static int plan_table(Table *table, void *information) {
  if (!python_alive()) return ERROR;
  int state = py.PyGILState_Ensure(), code = OK;
  PyObject *chosen = py.PyObject_CallFunction(best_index, "OL", table->object, (long long)(intptr_t)information);
  if (!chosen) code = fail_table(table);
  else if (py.PyObject_IsTrue(chosen) != 1) code = CONSTRAINT;
  if (chosen) py.Py_DecRef(chosen);
  py.PyGILState_Release(state);
  return code;
}

static void free_cursor(Cursor *cursor) {
  if (cursor->object) py.Py_DecRef(cursor->object);
  if (cursor->column) py.Py_DecRef(cursor->column);
  if (cursor->next) py.Py_DecRef(cursor->next);
  if (cursor->at_end) py.Py_DecRef(cursor->at_end);
  free(cursor);
}

static int open_cursor(Table *table, Cursor **out) {
  if (!python_alive()) return ERROR;
  int state = py.PyGILState_Ensure(), code = OK;
  Cursor *cursor = calloc(1, sizeof *cursor);
  if (cursor && (cursor->object = py.PyObject_CallMethod(table->object, "Open", NULL)) &&
      (cursor->column = py.PyObject_GetAttrString(cursor->object, "Column")) &&
      (cursor->next = py.PyObject_GetAttrString(cursor->object, "Next")) &&
      (cursor->at_end = py.PyObject_GetAttrString(cursor->object, "Eof"))) {
    *out = cursor;
  } else {
    code = cursor ? fail_table(table) : NOMEM;
    if (cursor) free_cursor(cursor);
  }
  py.PyGILState_Release(state);
  return code;
}

static int close_cursor(Cursor *cursor) {
  if (!python_alive()) return OK;
  int state = py.PyGILState_Ensure();
  PyObject *done = py.PyObject_CallMethod(cursor->object, "Close", NULL);
  if (done) py.Py_DecRef(done);
  else drop_error();
  free_cursor(cursor);
  py.PyGILState_Release(state);
  return OK;
}

/* `done` is what moved the cursor. */
static int moved(Cursor *cursor, PyObject *done) {
  PyObject *ended = done ? py.PyObject_CallObject(cursor->at_end, NULL) : NULL;
  int truth = ended ? py.PyObject_IsTrue(ended) : -1;
  if (ended) py.Py_DecRef(ended);
  if (done) py.Py_DecRef(done);
  cursor->ended = truth != 0;
  return truth < 0 ? fail_table(cursor->table) : OK;
}

/* `listed` has a bit for each argument that is the right-hand side of IN. */
static int filter(Cursor *cursor, int listed, const char *plan, int count, Value **values) {
  if (!python_alive()) return ERROR;
  int state = py.PyGILState_Ensure();
  PyObject *arguments = py.PyTuple_New(count), *done = NULL;
  int good = arguments != NULL;
  for (int at = 0; good && at < count; at++) {
    PyObject *value = at < 31 && listed >> at & 1 ? python_set(values[at]) : python_value(values[at]);
    good = value && !py.PyTuple_SetItem(arguments, at, value);
  }
  if (good) done = py.PyObject_CallMethod(cursor->object, "Filter", "izO", listed, plan, arguments);
  if (arguments) py.Py_DecRef(arguments);
  int code = moved(cursor, done);
  py.PyGILState_Release(state);
  return code;
}

static int next(Cursor *cursor) {
  if (!python_alive()) return ERROR;
  int state = py.PyGILState_Ensure(), code;
  if (watched(cursor->table->host)) code = INTERRUPT;
  else code = moved(cursor, py.PyObject_CallObject(cursor->next, NULL));
  py.PyGILState_Release(state);
  return code;
}

static int at_end(Cursor *cursor) { return cursor->ended; }

static int column(Cursor *cursor, Context *context, int number) {
  if (!python_alive()) return ERROR;
  int state = py.PyGILState_Ensure(), code = OK;
  PyObject *value = py.PyObject_CallFunction(cursor->column, "i", number);
  if (!give(context, value)) code = fail(context, cursor->table->host);
  if (value) py.Py_DecRef(value);
  py.PyGILState_Release(state);
  return code;
}

static int rowid(Cursor *cursor, long long *out) {
  if (!python_alive()) return ERROR;
  int state = py.PyGILState_Ensure(), code = OK;
  PyObject *value = py.PyObject_CallMethod(cursor->object, "Rowid", NULL);
  *out = value ? py.PyLong_AsLongLong(value) : -1;
  if (!value || (*out == -1 && py.PyErr_Occurred())) code = fail_table(cursor->table);
  if (value) py.Py_DecRef(value);
  py.PyGILState_Release(state);
  return code;
}

static const struct { /* sqlite3_module */
  int version;
  int (*create)(sqlite3 *, void *, int, const char *const *, Table **, char **);
  int (*connect)(sqlite3 *, void *, int, const char *const *, Table **, char **);
  int (*best_index)(Table *, void *);
  int (*disconnect)(Table *);
  int (*destroy)(Table *);
  int (*open)(Table *, Cursor **);
  int (*close)(Cursor *);
  int (*filter)(Cursor *, int, const char *, int, Value **);
  int (*next)(Cursor *);
  int (*at_end)(Cursor *);
  int (*column)(Cursor *, Context *, int);
  int (*rowid)(Cursor *, long long *);
  void *others[16];
} module = {1,           connect_table, connect_table, plan_table, disconnect_table, disconnect_table, open_cursor,
            close_cursor, filter,        next,          at_end,     column,           rowid,            {NULL}};

EXPORT int mediasql_module(Host *host, const char *name, PyObject *object) {
  Target *target = target_of(host, object);
  if (!target) return NOMEM;
  return sqlite.create_module_v2(host->database, name, &module, target, drop);
}
