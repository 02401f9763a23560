/* The table of its functions that SQLite hands to extensions: is it what routines.h says? */
#define _GNU_SOURCE
#include "extension.h"
#include "routines.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
  const char *name;
  int slot, since;
} all[] = {
#define X(name, slot, since) {#name, slot, since},
    ALL_ROUTINES(X)
#undef X
};

enum {
#define X(name, slot, since) SLOT_##name = slot,
  ALL_ROUTINES(X)
#undef X
};

enum {
#define X(name, slot, since) SINCE_##name = since,
  ALL_ROUTINES(X)
#undef X
};

typedef void (*Function)(void);

/* Whether a library that has a function of SQLite's by name has it somewhere else. */
static int misplaced(const char *name, Function function) {
  Dl_info there, here;
  char symbol[64];
  if (!dladdr((void *)function, &here)) return 0;
  void *library = dlopen(here.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  if (!library) return 0;
  snprintf(symbol, sizeof symbol, "sqlite3_%s", name);
  void *named = dlsym(library, symbol); /* perhaps that of another library, which this one is linked with */
  int differs = named && named != (void *)function && dladdr(named, &there) && there.dli_fbase == here.dli_fbase;
  dlclose(library);
  return differs;
}

static int unlike(char *message, size_t size, const char *name, int slot, const char *found) {
  snprintf(message, size,
           "mediasql: sqlite3_api_routines of this SQLite is not laid out as sqlite3ext.h says: slot %d, for sqlite3_%s, "
           "has %s",
           slot, name, found);
  return 0;
}

/* The version of the table's SQLite, as a number; 0 when what tells it is not where it should be. */
static int version_of(Routines table, const char **text, char *message, size_t size) {
  Function get_number = table[SLOT_libversion_number], get_text = table[SLOT_libversion];
  Dl_info info;
  char found[128] = "no function of a library";
  int major = 0, minor = 0, patch = 0, number = 0;
  if (dladdr((void *)get_number, &info) && dladdr((void *)get_text, &info)) {
    snprintf(found, sizeof found, "another function");
    if (!misplaced("libversion_number", get_number) && !misplaced("libversion", get_text)) {
      number = ((int (*)(void))get_number)();
      snprintf(found, sizeof found, "a function that returns %d", number);
      if (number > 3000000 && number < 4000000) { /* only then is the other one what it should be */
        *text = ((const char *(*)(void))get_text)();
        sscanf(*text, "%d.%d.%d", &major, &minor, &patch);
        if (number == major * 1000000 + minor * 1000 + patch) return number;
        snprintf(found, sizeof found, "a function that returns %d where the version is %.20s", number, *text);
      }
    }
  }
  return unlike(message, size, "libversion_number", SLOT_libversion_number, found);
}

int sqlite_ready(struct sqlite *found, Routines table, char *message, size_t size) {
  const char *text = NULL, *missing = NULL;
  int version = version_of(table, &text, message, size);
  if (!version) return 0;
  if (!misplaced("mprintf", table[SLOT_mprintf])) found->mprintf = (char *(*)(const char *, ...))table[SLOT_mprintf];
  if (version < OLDEST) {
    snprintf(message, size, "mediasql: SQLite %d.%d or later is needed; this is %s", OLDEST / 1000000,
             OLDEST / 1000 % 1000, text);
    return 0;
  }
  for (size_t at = 0; at < sizeof all / sizeof *all; at++)
    if (all[at].since <= version && misplaced(all[at].name, table[all[at].slot]))
      return unlike(message, size, all[at].name, all[at].slot, "another function");
#define X(result, name, parameters)                                                                                    \
  if (SINCE_##name <= version && !(found->name = (result(*) parameters)table[SLOT_##name])) missing = #name;
  SQLITE(X)
#undef X
  if (missing) snprintf(message, size, "mediasql: this SQLite (%s) was built without sqlite3_%s", text, missing);
  return !missing;
}
