/* Finds the Python of this process, or starts the one in whose environment this library was installed. */
#define _GNU_SOURCE
#include "python.h"

#include <dlfcn.h>
#include <limits.h>
#include <locale.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#ifdef __linux__
#include <link.h>
#endif

/* What the build knows of its Python; where the environment was moved or copied, what lies around this library wins. */
#ifndef MEDIASQL_PROGRAM
#define MEDIASQL_PROGRAM "" /* its executable */
#endif
#ifndef MEDIASQL_LIBRARY
#define MEDIASQL_LIBRARY "" /* its shared library */
#endif
#ifndef MEDIASQL_STDLIB
#define MEDIASQL_STDLIB "" /* the folder of its standard library */
#endif
#ifndef MEDIASQL_VERSION
#define MEDIASQL_VERSION "" /* such as 3.11 */
#endif

#ifndef IGNORE_ENVIRONMENT
#define IGNORE_ENVIRONMENT 1 /* 0 is for tests that need PYTHONMALLOC */
#endif

#define OLDEST 11 /* of 3.x */

struct python py;

static char root[PATH_MAX];
static volatile int ready; /* Python can be called; never taken back */
static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER;

static int exists(const char *path) {
  struct stat found;
  return *path && stat(path, &found) == 0;
}

/* Cuts the last part of a path off. False when there is none. */
static int parent(char *path) {
  char *slash = strrchr(path, '/');
  if (!slash || slash == path) return 0;
  *slash = 0;
  return 1;
}

static int found_in(void *handle) {
#define X(result, name, parameters)                                                                                    \
  if (!(*(void **)&py.name = dlsym(handle, #name))) return 0;
  PYTHON(X)
#undef X
#define X(name)                                                                                                        \
  if (!(py.name = (PyObject *)dlsym(handle, #name))) return 0;
  TYPES(X)
#undef X
#define X(name)                                                                                                        \
  if (!(py.name = (PyObject **)dlsym(handle, #name))) return 0;
  EXCEPTIONS(X)
#undef X
  return 1;
}

#ifdef __linux__
static int is_python(struct dl_phdr_info *info, size_t size, void *path) {
  const char *name = info->dlpi_name ? strrchr(info->dlpi_name, '/') : NULL;
  (void)size;
  if (!name || strncmp(name, "/libpython3", 11)) return 0;
  snprintf(path, PATH_MAX, "%s", info->dlpi_name);
  return 1;
}
#endif

/* Where the Python is that the process has already: in the program itself, or in a library that somebody keeps to
 * himself, which from now on everybody sees. NULL where there is none. */
static void *python_of_process(void) {
  char path[PATH_MAX] = "";
  void *everything = dlopen(NULL, RTLD_NOW);
  if (everything && dlsym(everything, "Py_IsInitialized")) return everything;
#ifdef __linux__
  dl_iterate_phdr(is_python, path);
#endif
  return *path ? dlopen(path, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL) : NULL;
}

/* `environment`: the folder with pyvenv.cfg that `path` is in. */
static int environment_above(const char *path, char *environment) {
  char probe[PATH_MAX + 16];
  snprintf(environment, PATH_MAX, "%s", path);
  while (parent(environment)) {
    snprintf(probe, sizeof probe, "%s/pyvenv.cfg", environment);
    if (exists(probe)) return 1;
  }
  return 0;
}

/* The folder with the executable that a virtual environment was made from: `home` in its pyvenv.cfg. */
static int home_of(const char *environment, char *home) {
  char line[PATH_MAX + 64], path[PATH_MAX + 16];
  snprintf(path, sizeof path, "%s/pyvenv.cfg", environment);
  FILE *file = fopen(path, "r");
  int found = 0;
  while (file && !found && fgets(line, sizeof line, file)) {
    char *value = strchr(line, '=');
    if (strncmp(line, "home", 4) || !value) continue;
    value += 1 + strspn(value + 1, " \t");
    value[strcspn(value, "\r\n")] = 0;
    snprintf(home, PATH_MAX, "%s", value);
    found = 1;
  }
  if (file) fclose(file);
  return found;
}

/* Whether `program` is an executable with a standard library; not so the scripts that choose among several Pythons. */
static int has_library(const char *program) {
  char prefix[PATH_MAX], probe[PATH_MAX + 32];
  if (!realpath(program, prefix) || !parent(prefix) || !parent(prefix)) return 0;
  snprintf(probe, sizeof probe, "%s/lib/python" MEDIASQL_VERSION "/encodings", prefix);
  return exists(probe);
}

/* The Python for the folder lib/python3… that `path` is in, as in wheels that were built elsewhere: the one beside that
 * folder, or for packages of a user or of Debian the one of that version that a shell finds. */
static int python_around(const char *path, char *program) {
  char folder[PATH_MAX - 32], *name = NULL;
  snprintf(folder, sizeof folder, "%s", path);
  while (parent(folder) && (name = strrchr(folder, '/')) && strncmp(name, "/python3", 8)) {}
  if (!name || !parent(folder) || !parent(folder)) return 0;
  snprintf(program, PATH_MAX, "%s/bin/python" MEDIASQL_VERSION, folder);
  const char *search = getenv("PATH");
  while (!has_library(program) && search && *search) {
    int length = (int)strcspn(search, ":");
    snprintf(program, PATH_MAX, "%.*s/python" MEDIASQL_VERSION, length, search);
    search += length + (search[length] == ':');
  }
  if (!has_library(program)) *program = 0;
  return *program != 0;
}

/* The first of `candidates` that can be loaded, for all libraries to see: Python's own extensions look for it there. */
static int load_python(char candidates[][PATH_MAX], int count) {
  for (int at = 0; at < count; at++) {
    if (!*candidates[at] || (strchr(candidates[at], '/') && !exists(candidates[at]))) continue;
    void *library = dlopen(candidates[at], RTLD_NOW | RTLD_GLOBAL);
    if (library && found_in(library)) return 1;
  }
  return 0;
}

static int version_differs(void) {
  size_t length = strlen(MEDIASQL_VERSION);
  const char *version = py.Py_GetVersion();
  return strncmp(version, MEDIASQL_VERSION, length) || (version[length] >= '0' && version[length] <= '9');
}

/* A host that forks does not know of Python, whose threads do not exist in the child: Python has to be told, as it is by
 * its own fork. Where the fork is Python's own, it holds the interpreter already, and knows. */
static __thread int fork_state, told; /* threads may fork at the same time */

static void before_fork(void) {
  told = python_alive() && !py.PyGILState_Check();
  if (!told) return;
  fork_state = py.PyGILState_Ensure();
  py.PyOS_BeforeFork();
}

static void after_fork_in_parent(void) {
  if (!told) return;
  py.PyOS_AfterFork_Parent();
  py.PyGILState_Release(fork_state);
}

static void after_fork_in_child(void) {
  if (!told) return;
  py.PyOS_AfterFork_Child();
  py.PyGILState_Release(fork_state);
}

/* Py_InitializeEx ends the process where it cannot work, so all that it needs must be there before; and where a PYTHON*
 * variable has a value that it does not know. Those are about another Python, if they are about any. */
static int initialize(const char *program, char *message, size_t size) {
  char *locale = setlocale(LC_CTYPE, NULL); /* Python sets that of the environment, and in UTF-8 mode needs none */
  locale = locale ? strdup(locale) : NULL;

  int done = 0;
  void (*set_program)(const wchar_t *) = NULL;
  void *(*create)(void) = NULL;
  void *everything = dlopen(NULL, RTLD_NOW);
  *(void **)&set_program = dlsym(everything, SET_PROGRAM);
  *(void **)&create = dlsym(everything, CONFIG_CREATE);
  if (create) {
    int (*set)(void *, const char *, const char *), (*set_int)(void *, const char *, long long);
    int (*start)(void *), (*error)(void *, const char **);
    void (*release)(void *);
    *(void **)&set = dlsym(everything, "PyInitConfig_SetStr");
    *(void **)&set_int = dlsym(everything, "PyInitConfig_SetInt");
    *(void **)&start = dlsym(everything, "Py_InitializeFromInitConfig");
    *(void **)&error = dlsym(everything, "PyInitConfig_GetError");
    *(void **)&release = dlsym(everything, "PyInitConfig_Free");
    void *config = create();
    const char *why = "out of memory";
    done = config && !set(config, "program_name", program) && !set_int(config, "utf8_mode", 1) &&
           !set_int(config, "install_signal_handlers", 0) &&
           !set_int(config, "use_environment", !IGNORE_ENVIRONMENT) && !start(config);
    if (config && !done) error(config, &why);
    if (!done) snprintf(message, size, "mediasql: Python cannot be started with %s: %s", program, why);
    if (config) release(config);
  } else if (set_program) {
    int *utf8 = dlsym(everything, "Py_UTF8Mode"); /* whatever the locale of the host is */
    int *ignore = dlsym(everything, "Py_IgnoreEnvironmentFlag");
    if (utf8) *utf8 = 1;
    if (ignore) *ignore = IGNORE_ENVIRONMENT;
    wchar_t *wide = py.Py_DecodeLocale(program, NULL); /* Python keeps it */
    if (wide) set_program(wide);
    py.Py_InitializeEx(0);
    done = 1;
  } else {
    snprintf(message, size, "mediasql: this Python (%.6s) cannot be started by others", py.Py_GetVersion());
  }

  if (locale) setlocale(LC_CTYPE, locale);
  free(locale);
  if (done) {
    py.PyEval_SaveThread();
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  }
  return done;
}

static int start_python(char *message, size_t size) {
  char own[PATH_MAX] = "", environment[PATH_MAX] = "", home[PATH_MAX] = "", program[PATH_MAX + 32] = "";
  char found[PATH_MAX] = "";
  char stdlib[PATH_MAX] = MEDIASQL_STDLIB, probe[PATH_MAX + 32];
  char candidates[3][PATH_MAX] = {"", MEDIASQL_LIBRARY, ""};
  Dl_info info;
  if (!dladdr((void *)python_ready, &info) || !realpath(info.dli_fname, own)) {
    snprintf(message, size, "mediasql: this library cannot tell where it is");
    return 0;
  }
  snprintf(root, sizeof root, "%s", own);
  for (int up = 0; up < 4; up++) parent(root); /* mediasql/sql/loadable/mediasql.so */

  const char *given = getenv("MEDIASQL_PYTHON"), *name = strrchr(MEDIASQL_LIBRARY, '/');
  if (given && !*given) given = NULL;
  snprintf(program, sizeof program, "%s", given ? given : MEDIASQL_PROGRAM);
  int virtual = !given && environment_above(own, environment);
  if (virtual) {
    snprintf(program, sizeof program, "%s/bin/python3", environment);
  } else {
    if (!given && !exists(program) && python_around(own, found)) snprintf(program, sizeof program, "%s", found);
    virtual = environment_above(program, environment);
  }
  if (!exists(program)) {
    snprintf(message, size,
             "mediasql: there is no Python at %s, where this library was built; install mediasql anew, or name the "
             "python of its environment in MEDIASQL_PYTHON",
             program);
    return 0;
  }
  if (virtual) home_of(environment, home);
  else if (realpath(program, home)) parent(home);
  if (*home && parent(home)) {
    snprintf(probe, sizeof probe, "%s/lib/python" MEDIASQL_VERSION "/encodings", home);
    if (exists(probe)) {
      snprintf(stdlib, sizeof stdlib, "%.*s", (int)(strlen(probe) - strlen("/encodings")), probe);
      snprintf(candidates[0], PATH_MAX, "%.*s/lib%s", PATH_MAX - 300, home, name ? name : "");
    }
  }
  snprintf(probe, sizeof probe, "%s/encodings", stdlib);
  if (!exists(probe)) {
    snprintf(message, size,
             "mediasql: the Python of %s has lost its standard library (%s); install mediasql in an environment of a "
             "Python that is there",
             program, stdlib);
    return 0;
  }
  snprintf(candidates[*found ? 1 : 2], PATH_MAX, "%s", name ? name + 1 : "");
  if (*found) snprintf(candidates[2], PATH_MAX, "%s", MEDIASQL_LIBRARY); /* of the other Python, mostly */
  if (!load_python(candidates, 3)) {
    snprintf(message, size,
             "mediasql: Python " MEDIASQL_VERSION " at %s has no shared library (%s), which a program without Python "
             "needs; install it (Debian: apt install libpython" MEDIASQL_VERSION "), or mediasql in an environment of "
             "a Python that has it",
             program, name ? name + 1 : "libpython");
    return 0;
  }
  if (version_differs()) {
    snprintf(message, size, "mediasql: this library was built for Python " MEDIASQL_VERSION ", and found %.6s",
             py.Py_GetVersion());
    return 0;
  }
  return initialize(program, message, size);
}

static int use_python(void *process, char *message, size_t size) {
  const char *(*version)(void);
  int minor = 0;
  *(void **)&version = dlsym(process, "Py_GetVersion");
  const char *found = version ? version() : "unknown";
  if (sscanf(found, "3.%d", &minor) != 1 || minor < OLDEST || !found_in(process)) {
    snprintf(message, size, "mediasql: this process has Python %.*s; 3.%d or later is needed", (int)strcspn(found, " "), found,
             OLDEST);
    return 0;
  }
  if (py.Py_IsInitialized()) return 1;
  if (version_differs()) {
    snprintf(message, size,
             "mediasql: this process has the library of Python %.6s, and mediasql was installed for " MEDIASQL_VERSION,
             py.Py_GetVersion());
    return 0;
  }
  return start_python(message, size);
}

int python_ready(char *message, size_t size) {
  pthread_mutex_lock(&starting);
  if (!ready) {
    *message = 0;
    void *process = python_of_process();
    ready = process ? use_python(process, message, size) : start_python(message, size);
    if (ready) {
      int state = py.PyGILState_Ensure();
      py.None = py.Py_BuildValue("");
      py.PyGILState_Release(state);
    }
  }
  pthread_mutex_unlock(&starting);
  return ready;
}

int python_alive(void) { return ready && py.Py_IsInitialized(); }

const char *python_root(void) { return root; }
