/* What SQLite calls: the entry point, and functions and tables that lead to Python objects.
 *
 * SQLite is reached through the `sqlite3_api_routines` that the entry point is given, by place, and only for what has to
 * be quick or cannot be called from Python; `host.py` does the rest. Everything runs on the thread that SQLite calls on.
 */
#define _GNU_SOURCE
#include "python.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define PROTOCOL 2          /* between this file and host.py */
#define OLDEST 3038000      /* version of SQLite */
#define HAS_NAMES 3039000   /* sqlite3_db_name */
#define WATCH 32            /* calls between two looks of a host's watch */

enum { OK = 0, ERROR = 1, NOMEM = 7, INTERRUPT = 9, CONSTRAINT = 19, LOADED_FOR_GOOD = 256 };
enum { INTEGER = 1, FLOAT = 2, TEXT = 3, BLOB = 4 };
#define UTF8 1
#define TRANSIENT ((void (*)(void *))(intptr_t)-1)

typedef struct sqlite3 sqlite3;
typedef struct sqlite3_context Context;
typedef struct sqlite3_value Value;
typedef void (*Destructor)(void *);

/* Places in sqlite3_api_routines (sqlite3ext.h), to which versions only append. */
static void (*const *sqlite)(void);
#define AT(place, result, ...) ((result(*)(__VA_ARGS__))sqlite[place])
#define result_blob AT(201, void, Context *, const void *, uint64_t, Destructor)
#define result_double AT(79, void, Context *, double)
#define result_error AT(80, void, Context *, const char *, int)
#define result_error_code AT(146, void, Context *, int)
#define result_int64 AT(83, void, Context *, long long)
#define result_null AT(84, void, Context *)
#define result_text AT(202, void, Context *, const char *, uint64_t, Destructor, unsigned char)
#define user_data AT(101, void *, Context *)
#define value_blob AT(102, const void *, Value *)
#define value_bytes AT(103, int, Value *)
#define value_double AT(105, double, Value *)
#define value_int64 AT(107, long long, Value *)
#define value_text AT(109, const char *, Value *)
#define value_type AT(113, int, Value *)
#define vtab_in_first AT(260, int, Value *, Value **)
#define vtab_in_next AT(261, int, Value *, Value **)
#define create_function                                                                                                \
  AT(162, int, sqlite3 *, const char *, int, int, void *, void (*)(Context *, int, Value **), void *, void *, Destructor)
#define create_module AT(119, int, sqlite3 *, const char *, const void *, void *, Destructor)
#define declare_vtab AT(50, int, sqlite3 *, const char *)
#define db_config ((int (*)(sqlite3 *, int, ...))sqlite[163])
#define mprintf ((char *(*)(const char *, ...))sqlite[69])
#define db_filename AT(180, const char *, sqlite3 *, const char *)
#define db_mutex AT(164, void *, sqlite3 *)
#define db_name AT(264, const char *, sqlite3 *, int)
#define mutex_leave AT(133, void, void *)
#define mutex_try AT(134, int, void *)
#define free_text AT(58, void, void *)
#define libversion_number AT(67, int, void)
#define libversion AT(66, const char *, void)

/* One connection. `watch`, where there is one, is asked now and then whether to end what runs.
 *
 * database  NULL when SQLite has closed it
 * targets   what SQLite has of ours in it
 * kept      the package has not forgotten it
 */
typedef struct Host {
  sqlite3 *database;
  int targets, kept;
  unsigned calls;
  PyObject *watch;
} Host;

/* What a function or a module of SQLite's belongs to. */
typedef struct Target {
  PyObject *object;
  Host *host;
} Target;

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

/* Of the package, there when the first connection is attached. */
static PyObject *explain, *released, *best_index;

/* ---- errors ---- */

/* What Python raised is of no use to anyone, except for Ctrl-C, which it is told again when the statement has ended. */
static void drop_error(void) {
  int interrupted = py.PyErr_Occurred() && py.PyErr_ExceptionMatches(*py.PyExc_KeyboardInterrupt);
  py.PyErr_Clear();
  if (interrupted) py.PyErr_SetInterrupt();
}

/* What Python raised, as a code and a text that the caller gives to free(). */
static int raised(Host *host, char **text) {
  PyObject *type = NULL, *value = NULL, *trace = NULL, *told = NULL;
  const char *message = "mediasql cannot tell what went wrong";
  int code = ERROR, again = 0;
  py.PyErr_Fetch(&type, &value, &trace);
  py.PyErr_NormalizeException(&type, &value, &trace);
  if (value && explain) told = py.PyObject_CallFunction(explain, "LO", (long long)(intptr_t)host->database, value);
  if (!told || !py.PyArg_ParseTuple(told, "isp", &code, &message, &again)) drop_error();
  *text = strdup(message);
  if (told) py.Py_DecRef(told);
  if (trace) py.Py_DecRef(trace);
  if (value) py.Py_DecRef(value);
  if (type) py.Py_DecRef(type);
  if (again) py.PyErr_SetInterrupt();
  return code;
}

static int fail(Context *context, Host *host) {
  char *text = NULL;
  int code = raised(host, &text);
  result_error(context, text ? text : "out of memory", -1);
  if (code != ERROR) result_error_code(context, code);
  free(text);
  return code;
}

static int fail_table(Table *table) {
  char *text = NULL;
  int code = raised(table->host, &text);
  free_text(table->error);
  table->error = mprintf("%s", text ? text : "out of memory");
  free(text);
  return code;
}

/* ---- values ---- */

static PyObject *python_value(Value *value) {
  switch (value_type(value)) {
  case INTEGER: return py.PyLong_FromLongLong(value_int64(value));
  case FLOAT: return py.PyFloat_FromDouble(value_double(value));
  case TEXT: {
    const char *text = value_text(value); /* before its length, which is that of this encoding */
    return py.PyUnicode_DecodeUTF8(text ? text : "", value_bytes(value), NULL);
  }
  case BLOB: {
    const char *bytes = value_blob(value);
    return py.PyBytes_FromStringAndSize(bytes ? bytes : "", value_bytes(value));
  }
  default: py.Py_IncRef(py.None); return py.None;
  }
}

static PyObject *python_values(int count, Value **values) {
  PyObject *tuple = py.PyTuple_New(count);
  for (int at = 0; tuple && at < count; at++) {
    PyObject *value = python_value(values[at]);
    if (!value || py.PyTuple_SetItem(tuple, at, value)) {
      py.Py_DecRef(tuple);
      return NULL;
    }
  }
  return tuple;
}

/* The right-hand side of IN, all at once. */
static PyObject *python_set(Value *list) {
  PyObject *set = py.PySet_New(NULL);
  Value *value = NULL;
  for (int code = vtab_in_first(list, &value); set && code == OK && value; code = vtab_in_next(list, &value)) {
    PyObject *item = python_value(value);
    int failed = !item || py.PySet_Add(set, item);
    if (item) py.Py_DecRef(item);
    if (failed) {
      py.Py_DecRef(set);
      return NULL;
    }
  }
  return set;
}

/* False when Python raised. */
static int give(Context *context, PyObject *value) {
  if (!value) return 0;
  if (value == py.None) {
    result_null(context);
  } else if (py.PyObject_IsInstance(value, py.PyLong_Type)) {
    long long number = py.PyLong_AsLongLong(value);
    if (number == -1 && py.PyErr_Occurred()) return 0;
    result_int64(context, number);
  } else if (py.PyObject_IsInstance(value, py.PyUnicode_Type)) {
    ptrdiff_t size = 0;
    const char *text = py.PyUnicode_AsUTF8AndSize(value, &size);
    if (!text) return 0;
    result_text(context, text, (uint64_t)size, TRANSIENT, UTF8);
  } else if (py.PyObject_IsInstance(value, py.PyFloat_Type)) {
    result_double(context, py.PyFloat_AsDouble(value));
  } else {
    char *bytes = NULL;
    ptrdiff_t size = 0;
    if (py.PyBytes_AsStringAndSize(value, &bytes, &size)) return 0;
    result_blob(context, bytes, (uint64_t)size, TRANSIENT);
  }
  return 1;
}

/* Whether what runs should end now. The caller holds the interpreter. */
static int watched(Host *host) {
  if (!host->watch || ++host->calls % WATCH) return 0;
  PyObject *answer = py.PyObject_CallObject(host->watch, NULL);
  int ends = answer ? py.PyObject_IsTrue(answer) : 0;
  if (answer) py.Py_DecRef(answer);
  else drop_error();
  return ends > 0;
}

/* ---- the life of a connection ---- */

EXPORT Host *mediasql_host(sqlite3 *database) {
  Host *host = calloc(1, sizeof *host);
  if (host) *host = (Host){database, 1, 1, 0, NULL};
  return host;
}

/* The last one tells the package that the connection is closed. The caller holds the interpreter. */
EXPORT void mediasql_release(Host *host) {
  if (--host->targets) return;
  PyObject *done = py.PyObject_CallFunction(released, "L", (long long)(intptr_t)host->database);
  if (done) py.Py_DecRef(done);
  else drop_error();
  if (host->watch) py.Py_DecRef(host->watch);
  host->watch = NULL;
  host->database = NULL;
  if (!host->kept) free(host);
}

EXPORT void mediasql_forget(Host *host) {
  host->kept = 0;
  if (!host->database) free(host);
}

/* The files of its databases, each with a zero behind it; None where it cannot be asked now. From any thread that holds
 * the interpreter, without which SQLite cannot close the connection. So nothing in here may let it go, as the garbage
 * collector does. */
EXPORT PyObject *mediasql_files(Host *host) {
  void *mutex = host->database && libversion_number() >= HAS_NAMES ? db_mutex(host->database) : NULL;
  if (!mutex || mutex_try(mutex) != OK) {
    py.Py_IncRef(py.None);
    return py.None;
  }
  char *files = NULL;
  size_t size = 0;
  const char *name;
  for (int at = 0; (name = db_name(host->database, at)); at++) {
    const char *file = db_filename(host->database, name);
    size_t length = file && *file ? strlen(file) + 1 : 0;
    char *more = length ? realloc(files, size + length) : NULL;
    if (!more) continue;
    memcpy(more + size, file, length);
    files = more;
    size += length;
  }
  mutex_leave(mutex);
  PyObject *found = py.PyBytes_FromStringAndSize(files ? files : "", (ptrdiff_t)size);
  free(files);
  return found;
}

EXPORT void mediasql_watch(Host *host, PyObject *watch) {
  PyObject *before = host->watch;
  if (watch == py.None) watch = NULL;
  if (watch) py.Py_IncRef(watch);
  host->watch = watch;
  if (before) py.Py_DecRef(before);
}

static Target *target_of(Host *host, PyObject *object) {
  Target *target = calloc(1, sizeof *target);
  if (!target) return NULL;
  *target = (Target){object, host};
  py.Py_IncRef(object);
  host->targets++;
  return target;
}

static void drop(void *given) {
  Target *target = given;
  if (!python_alive()) return; /* the process ends */
  int state = py.PyGILState_Ensure();
  py.Py_DecRef(target->object);
  mediasql_release(target->host);
  py.PyGILState_Release(state);
  free(target);
}

/* ---- functions ---- */

static void function(Context *context, int count, Value **values) {
  Target *target = user_data(context);
  if (!python_alive()) {
    result_error(context, "mediasql: Python has ended in this process", -1);
    return;
  }
  int state = py.PyGILState_Ensure();
  if (watched(target->host)) {
    result_error_code(context, INTERRUPT);
  } else {
    PyObject *arguments = python_values(count, values);
    PyObject *result = arguments ? py.PyObject_CallObject(target->object, arguments) : NULL;
    if (arguments) py.Py_DecRef(arguments);
    if (!give(context, result)) fail(context, target->host);
    if (result) py.Py_DecRef(result);
  }
  py.PyGILState_Release(state);
}

/* Registration is called by Python, which holds the interpreter. SQLite drops the target itself when it refuses. */
EXPORT int mediasql_function(Host *host, const char *name, int count, int flags, PyObject *callable) {
  Target *target = target_of(host, callable);
  if (!target) return NOMEM;
  return create_function(host->database, name, count, UTF8 | flags, target, function, NULL, NULL, drop);
}

/* sqlite3_db_config of an option that is on or off; `value` -1 asks. Its arguments vary, so that Python cannot call it. */
EXPORT int mediasql_config(sqlite3 *database, int option, int value) {
  int result = -1;
  return db_config(database, option, value, &result) == OK ? result : -1;
}

/* ---- tables ---- */

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
    code = declare_vtab(database, schema);
    if (code == OK) {
      py.Py_IncRef(object);
      table->object = object;
      table->host = target->host;
      *out = table;
    }
  } else {
    char *text = NULL;
    code = raised(target->host, &text);
    *error = mprintf("%s", text ? text : "out of memory");
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
  return create_module(host->database, name, &module, target, drop);
}

/* ---- the entry point ---- */

/* Where packages begin in Python's search path, behind the standard library. */
static ptrdiff_t packages_in(PyObject *path) {
  ptrdiff_t at = 0, size = 0;
  for (; at < py.PyList_Size(path); at++) {
    const char *folder = py.PyUnicode_AsUTF8AndSize(py.PyList_GetItem(path, at), &size);
    const char *name = folder ? strrchr(folder, '/') : NULL;
    if (name && (!strcmp(name, "/site-packages") || !strcmp(name, "/dist-packages"))) break;
  }
  py.PyErr_Clear();
  return at;
}

/* The package that lies around this library, where that started Python; otherwise the one that the process knows. */
static PyObject *import_package(void) {
  PyObject *path = *python_root() ? py.PySys_GetObject("path") : NULL; /* not ours to drop */
  PyObject *folder = path ? py.PyUnicode_DecodeFSDefault(python_root()) : NULL;
  PyObject *known = folder ? py.PyObject_CallMethod(path, "count", "O", folder) : NULL;
  if (known && py.PyObject_IsTrue(known) == 0) py.PyList_Insert(path, packages_in(path), folder);
  if (known) py.Py_DecRef(known);
  if (folder) py.Py_DecRef(folder);
  py.PyErr_Clear();
  return py.PyImport_ImportModule("mediasql.sql.loadable.binding");
}

static int attach(sqlite3 *database, const char *own) {
  PyObject *package = import_package(), *done = NULL;
  if (package && !explain) {
    explain = py.PyObject_GetAttrString(package, "explain");
    released = py.PyObject_GetAttrString(package, "released");
    best_index = py.PyObject_GetAttrString(package, "best_index");
  }
  if (package && explain && released && best_index)
    done = py.PyObject_CallMethod(package, "attach", "isLL", PROTOCOL, own, (long long)(intptr_t)sqlite,
                                  (long long)(intptr_t)database);
  if (package) py.Py_DecRef(package);
  if (done) py.Py_DecRef(done);
  return done != NULL;
}

/* What Python raised before it could be asked to explain: that something is not installed, mostly. */
static char *import_error(void) {
  PyObject *type = NULL, *value = NULL, *trace = NULL, *text = NULL;
  py.PyErr_Fetch(&type, &value, &trace);
  if (value) text = py.PyObject_Str(value);
  ptrdiff_t size = 0;
  const char *told = text ? py.PyUnicode_AsUTF8AndSize(text, &size) : NULL;
  char *message = mprintf("mediasql: this process runs Python %.6s, where mediasql cannot be imported (%s); "
                          "`pip install mediasql` in its environment",
                          py.Py_GetVersion(), told ? told : "no reason is given");
  py.PyErr_Clear();
  if (text) py.Py_DecRef(text);
  if (trace) py.Py_DecRef(trace);
  if (value) py.Py_DecRef(value);
  if (type) py.Py_DecRef(type);
  return message;
}

EXPORT int sqlite3_mediasql_init(sqlite3 *database, char **error, void (*const *routines)(void)) {
  char message[4096] = "", own[PATH_MAX] = "";
  Dl_info info;
  if (sqlite && sqlite != routines) {
    /* What SQLite passes to a function does not tell which library it is of. */
    *error = ((char *(*)(const char *, ...))routines[69])(
        "mediasql: another SQLite library of this process has loaded this extension already; use one of them");
    return ERROR;
  }
  sqlite = routines;
  if (libversion_number() < OLDEST) {
    *error = mprintf("mediasql: SQLite 3.38 or later is needed; this is %s", libversion());
    sqlite = NULL;
    return ERROR;
  }
  if (!dladdr((void *)sqlite3_mediasql_init, &info) || !realpath(info.dli_fname, own)) {
    *error = mprintf("mediasql: this library cannot tell where it is");
    return ERROR;
  }
  dlopen(own, RTLD_NOW | RTLD_NODELETE); /* Python's threads outlive connections, and a load that failed */
  if (!python_ready(message, sizeof message)) {
    *error = mprintf("%s", message);
    return ERROR;
  }
  int state = py.PyGILState_Ensure();
  int done = attach(database, own);
  if (!done && explain) {
    Host nobody = {database, 1, 1, 0, NULL};
    char *text = NULL;
    raised(&nobody, &text);
    *error = mprintf("mediasql: %s", text ? text : "out of memory");
    free(text);
  } else if (!done) {
    *error = import_error();
  }
  py.PyGILState_Release(state);
  return done ? LOADED_FOR_GOOD : ERROR;
}
