/* SQLite's interface, and what the parts of the extension share.
 *
 * SQLite is reached through the `sqlite3_api_routines` that the entry point is given, by place, and only for what has to
 * be quick or cannot be called from Python; `host.py` does the rest.
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

/* Places in sqlite3_api_routines (sqlite3ext.h), to which versions only append. */
extern void (*const *sqlite)(void);
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

/* Of the package, there when the first connection is attached. */
extern PyObject *explain, *released, *best_index;

/* What Python raised is of no use to anyone, except for Ctrl-C, which it is told again when the statement has ended. */
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
