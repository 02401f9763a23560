/* What SQLite calls: the entry point, and functions that lead to Python objects; and the life of a connection.
 *
 * Everything runs on the thread that SQLite calls on. Tables are in tables.c, start.c finds or starts Python.
 */
#define _GNU_SOURCE
#include "extension.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROTOCOL 2 /* between this and binding.py */
#define WATCH 32   /* calls between two looks of a host's watch */

struct sqlite sqlite;
static Routines routines_in_use;
PyObject *explain, *released, *best_index;

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
  void *mutex = host->database && sqlite.db_name ? sqlite.db_mutex(host->database) : NULL;
  if (!mutex || sqlite.mutex_try(mutex) != OK) {
    py.Py_IncRef(py.None);
    return py.None;
  }
  char *files = NULL;
  size_t size = 0;
  const char *name;
  for (int at = 0; (name = sqlite.db_name(host->database, at)); at++) {
    const char *file = sqlite.db_filename(host->database, name);
    size_t length = file && *file ? strlen(file) + 1 : 0;
    char *more = length ? realloc(files, size + length) : NULL;
    if (!more) continue;
    memcpy(more + size, file, length);
    files = more;
    size += length;
  }
  sqlite.mutex_leave(mutex);
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

Target *target_of(Host *host, PyObject *object) {
  Target *target = calloc(1, sizeof *target);
  if (!target) return NULL;
  *target = (Target){object, host};
  py.Py_IncRef(object);
  host->targets++;
  return target;
}

void drop(void *given) {
  Target *target = given;
  if (!python_alive()) return; /* the process ends */
  int state = py.PyGILState_Ensure();
  py.Py_DecRef(target->object);
  mediasql_release(target->host);
  py.PyGILState_Release(state);
  free(target);
}

int watched(Host *host) {
  if (!host->watch || ++host->calls % WATCH) return 0;
  PyObject *answer = py.PyObject_CallObject(host->watch, NULL);
  int ends = answer ? py.PyObject_IsTrue(answer) : 0;
  if (answer) py.Py_DecRef(answer);
  else drop_error();
  return ends > 0;
}

/* ---- functions ---- */

static void function(Context *context, int count, Value **values) {
  Target *target = sqlite.user_data(context);
  if (!python_alive()) {
    sqlite.result_error(context, "mediasql: Python has ended in this process", -1);
    return;
  }
  int state = py.PyGILState_Ensure();
  if (watched(target->host)) {
    sqlite.result_error_code(context, INTERRUPT);
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
  return sqlite.create_function_v2(host->database, name, count, UTF8 | flags, target, function, NULL, NULL, drop);
}

/* sqlite3_db_config of an option that is on or off; `value` -1 asks. Its arguments vary, so that Python cannot call it. */
EXPORT int mediasql_config(sqlite3 *database, int option, int value) {
  int result = -1;
  return sqlite.db_config(database, option, value, &result) == OK ? result : -1;
}

/* ---- the entry point ---- */

/* Where packages begin in Python's search path, behind the standard library. */
static ptrdiff_t packages_in(PyObject *path) {
  ptrdiff_t at = 0, size = 0;
  for (; at < py.PyList_Size(path); at++) {
    const char *folder = py.PyUnicode_AsUTF8AndSize(py.PyList_GetItem(path, at), &size);
    const char *name = folder ? strrchr(folder, '/') : NULL;
    if (!folder) py.PyErr_Clear(); /* not UTF-8 */
    if (name && (!strcmp(name, "/site-packages") || !strcmp(name, "/dist-packages"))) break;
  }
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
  PyObject *library = package ? py.PyUnicode_DecodeFSDefault(own) : NULL; /* its path need not be UTF-8 */
  if (library && explain && released && best_index)
    done = py.PyObject_CallMethod(package, "attach", "iOLL", PROTOCOL, library, (long long)(intptr_t)routines_in_use,
                                  (long long)(intptr_t)database);
  if (library) py.Py_DecRef(library);
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
  char *message = sqlite.mprintf("mediasql: this process runs Python %.6s, where mediasql cannot be imported (%s); "
                          "`pip install mediasql` in its environment",
                          py.Py_GetVersion(), told ? told : "no reason is given");
  py.PyErr_Clear();
  if (text) py.Py_DecRef(text);
  if (trace) py.Py_DecRef(trace);
  if (value) py.Py_DecRef(value);
  if (type) py.Py_DecRef(type);
  return message;
}

/* Whether the functions of SQLite can be called. */
static int use_routines(Routines routines, char **error) {
  static pthread_mutex_t looking = PTHREAD_MUTEX_INITIALIZER; /* hosts may load it in several threads */
  char message[512] = "";
  struct sqlite found = {0};
  pthread_mutex_lock(&looking);
  if (!routines_in_use && sqlite_ready(&found, routines, message, sizeof message)) {
    sqlite = found;
    routines_in_use = routines;
  }
  int usable = routines == routines_in_use;
  /* What SQLite passes to a function does not tell which library it is of. */
  if (!usable && !*message && sqlite_ready(&found, routines, message, sizeof message))
    snprintf(message, sizeof message,
             "mediasql: another SQLite library of this process has loaded this extension already; use one of them");
  pthread_mutex_unlock(&looking);
  if (!usable && found.mprintf) *error = found.mprintf("%s", message);
  else if (!usable) fprintf(stderr, "%s\n", message); /* with which function SQLite frees what it is told is not known */
  return usable;
}

EXPORT int sqlite3_mediasql_init(sqlite3 *database, char **error, Routines routines) {
  char message[4096] = "", own[PATH_MAX] = "";
  Dl_info info;
  if (!use_routines(routines, error)) return ERROR;
  if (!dladdr((void *)sqlite3_mediasql_init, &info) || !realpath(info.dli_fname, own)) {
    *error = sqlite.mprintf("mediasql: this library cannot tell where it is");
    return ERROR;
  }
  dlopen(own, RTLD_NOW | RTLD_NODELETE); /* Python's threads outlive connections, and a load that failed */
  if (!python_ready(message, sizeof message)) {
    *error = sqlite.mprintf("%s", message);
    return ERROR;
  }
  int state = py.PyGILState_Ensure();
  int done = attach(database, own);
  if (!done && explain) {
    Host nobody = {database, 1, 1, 0, NULL};
    char *text = NULL;
    raised(&nobody, &text);
    *error = sqlite.mprintf("mediasql: %s", text ? text : "out of memory");
    free(text);
  } else if (!done) {
    *error = import_error();
  }
  py.PyGILState_Release(state);
  return done ? LOADED_FOR_GOOD : ERROR;
}
