/* SPDX-License-Identifier: Apache-2.0 */
#include "store/kept.h"

#include <glib.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME "before-recovery"

/* What RocksDB opens anew and nobody needs. */
static bool is_needless(const char *name) {
  return g_str_equal(name, "LOCK") || g_str_equal(name, "LOG") || g_str_has_prefix(name, "LOG.old");
}

static bool link_file(const char *from, const char *to, const char *name) {
  g_autofree char *source = g_build_filename(from, name, NULL);
  g_autofree char *target = g_build_filename(to, name, NULL);
  struct stat about;
  if (lstat(source, &about) != 0 || !S_ISREG(about.st_mode)) {
    return true;
  }
  return link(source, target) == 0;
}

static bool link_files(const char *from, const char *to) {
  GDir *files = g_dir_open(from, 0, NULL);
  if (files == NULL) {
    return false;
  }
  bool linked = true;
  for (const char *name = g_dir_read_name(files); linked && name != NULL; name = g_dir_read_name(files)) {
    linked = is_needless(name) || link_file(from, to, name);
  }
  g_dir_close(files);
  return linked;
}

/* A flat directory. */
static void remove_directory(const char *path) {
  GDir *files = g_dir_open(path, 0, NULL);
  if (files == NULL) {
    return;
  }
  for (const char *name = g_dir_read_name(files); name != NULL; name = g_dir_read_name(files)) {
    g_autofree char *file = g_build_filename(path, name, NULL);
    unlink(file);
  }
  g_dir_close(files);
  rmdir(path);
}

char *kept_find(const char *directory) {
  char *path = g_build_filename(directory, NAME, NULL);
  if (access(path, F_OK) != 0) {
    g_clear_pointer(&path, g_free);
  }
  return path;
}

bool kept_make(const char *directory) {
  g_autofree char *current = g_build_filename(directory, "CURRENT", NULL);
  g_autofree char *path = g_build_filename(directory, NAME, NULL);
  g_autofree char *fresh = g_strconcat(path, ".new", NULL); /* filled and renamed: half of it would be taken for all */
  if (access(current, F_OK) != 0 || access(path, F_OK) == 0) {
    return false;
  }
  remove_directory(fresh);
  bool made = mkdir(fresh, 0700) == 0 && link_files(directory, fresh) && rename(fresh, path) == 0;
  if (!made) {
    remove_directory(fresh);
  }
  return made;
}

void kept_remove(const char *directory) {
  g_autofree char *path = g_build_filename(directory, NAME, NULL);
  remove_directory(path);
}
