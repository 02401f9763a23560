/* SQLite's interface, and what the parts of the extension share.
 *
 * SQLite is reached through the `sqlite3_api_routines` that the entry point is given, and only for what has to be quick
 * or cannot be called from Python; `host.py` does the rest. The places of functions in that table are in routines.h,
 * which the build makes of api_routines.py.
 */
#ifndef MEDIASQL_EXTENSION_H
#define MEDIASQL_EXTENSION_H

#include "python.h"

#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

enum { OK = 0, ERROR = 1, NOMEM = 7, INTERRUPT = 9, CONSTRAINT = 19, LOADED_FOR_GOOD = 256 };
enum { INTEGER = 1, FLOAT = 2, TEXT = 3, BLOB = 4 };
#define UTF8 1
#define TRANSIENT ((void (*)(void *))(intptr_t)-1)

typedef struct sqlite3 sqlite3;
typedef struct sqlite3_context Context;
typedef struct sqlite3_value Value;
typedef void (*Destructor)(void *);

/* The functions of SQLite that the extension calls: X(result, name, parameters). */
#define SQLITE(X)                                                                                                      \
  X(void, result_blob64, (Context *, const void *, uint64_t, Destructor))                                              \
  X(void, result_double, (Context *, double))                                                                          \
  X(void, result_error, (Context *, const char *, int))                                                                \
  X(void, result_error_code, (Context *, int))                                                                         \
  X(void, result_int64, (Context *, long long))                                                                        \
  X(void, result_null, (Context *))                                                                                    \
  X(void, result_text64, (Context *, const char *, uint64_t, Destructor, unsigned char))                               \
  X(void *, user_data, (Context *))                                                                                    \
  X(const void *, value_blob, (Value *))                                                                               \
  X(int, value_bytes, (Value *))                                                                                       \
  X(double, value_double, (Value *))                                                                                   \
  X(long long, value_int64, (Value *))                                                                                 \
  X(const char *, value_text, (Value *))                                                                               \
  X(int, value_type, (Value *))                                                                                        \
  X(int, vtab_in_first, (Value *, Value **))                                                                           \
  X(int, vtab_in_next, (Value *, Value **))                                                                            \
  X(int, create_function_v2,                                                                                           \
    (sqlite3 *, const char *, int, int, void *, void (*)(Context *, int, Value **), void *, void *, Destructor))       \
  X(int, create_module_v2, (sqlite3 *, const char *, const void *, void *, Destructor))                                \
  X(int, declare_vtab, (sqlite3 *, const char *))                                                                      \
  X(int, db_config, (sqlite3 *, int, ...))                                                                             \
  X(char *, mprintf, (const char *, ...))                                                                              \
  X(const char *, db_filename, (sqlite3 *, const char *))                                                              \
  X(void *, db_mutex, (sqlite3 *))                                                                                     \
  X(const char *, db_name, (sqlite3 *, int))                                                                           \
  X(void, mutex_leave, (void *))                                                                                       \
  X(int, mutex_try, (void *))                                                                                          \
  X(void, free, (void *))

/* A function that the host's version does not have yet is NULL. */
struct sqlite {
#define X(result, name, parameters) result(*name) parameters;
  SQLITE(X)
#undef X
};

extern struct sqlite sqlite;

typedef void (*const *Routines)(void); /* sqlite3_api_routines */

/* Takes the functions from the host's table, when that is laid out as routines.h says and has all functions.
 * On failure, `message` (of `size` bytes) tells why; `mprintf` is there even then if it can be called. */
int sqlite_ready(struct sqlite *found, Routines table, char *message, size_t size);

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

/* Of the package, there when the first connection is attached. */
extern PyObject *explain, *released, *best_index;

/* What Python raised is of no use to anyone, except for KeyboardInterrupt, which is raised again as soon as
 * SQLite returns. */
void drop_error(void);

/* What Python raised, as a code and a text that the caller gives to free(). */
int raised(Host *host, char **text);

/* Makes what Python raised the error of the function that runs. */
int fail(Context *context, Host *host);

PyObject *python_value(Value *value);
PyObject *python_values(int count, Value **values);

/* The right-hand side of IN, all at once. */
PyObject *python_set(Value *list);

/* Makes `value` the result of the function that runs. False when Python raised. */
int give(Context *context, PyObject *value);

/* Whether what runs should end now. The caller holds the interpreter. */
int watched(Host *host);

Target *target_of(Host *host, PyObject *object);

/* SQLite's destructor of a Target. */
void drop(void *target);

#endif
