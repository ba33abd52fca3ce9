/* A disk that fails on order. Loaded into a process by LD_PRELOAD, it counts the calls on files below one folder and
 * lets some of them fail. Only what SQLite's unix VFS and Rust's File use is wrapped (see `nm` of the test). The
 * process under test touches those files from one thread. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

enum call { OPEN, WRITE, SYNC, TRUNCATE, CALLS };
static const char *const names[CALLS] = {"open", "write", "sync", "truncate"};

static const char *folder;      /* FAULT_FOLDER: the files that count */
static long counted[CALLS];
static long injected;
static enum call which = CALLS; /* FAULT_CALL: the kind that fails */
static long first;              /* FAULT_FIRST: from this call on, counted from 1 */
static long last;               /* FAULT_LAST: up to this one */
static int with;                /* FAULT_ERROR: EIO, ENOSPC; SHORT writes half, TORN does so and then finds no space */
enum { SHORT = -1, TORN = -2 };

static char ours[4096]; /* by descriptor */

__attribute__((constructor)) static void begin(void) {
    folder = getenv("FAULT_FOLDER");
    const char *call = getenv("FAULT_CALL"), *error = getenv("FAULT_ERROR");
    for (int i = 0; call && i < CALLS; i++)
        if (!strcmp(call, names[i])) which = i;
    first = call ? atol(getenv("FAULT_FIRST")) : 0;
    last = call ? atol(getenv("FAULT_LAST")) : 0;
    if (error)
        with = !strcmp(error, "SHORT") ? SHORT : !strcmp(error, "TORN") ? TORN : !strcmp(error, "EIO") ? EIO : ENOSPC;
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("FAULT_COUNTS");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) return;
    for (int i = 0; i < CALLS; i++) fprintf(file, "%s %ld\n", names[i], counted[i]);
    fprintf(file, "injected %ld\n", injected);
    fclose(file);
}

/* Counts a call; 0, or how it fails. */
static int fault(enum call call) {
    long number = ++counted[call];
    if (call != which || number < first || number > last) return 0;
    injected++;
    return with;
}

static int watched(int fd) { return fd >= 0 && fd < (int)sizeof ours && ours[fd]; }

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int opened(int fd, int counts) {
    if (fd >= 0 && fd < (int)sizeof ours) ours[fd] = counts != 0;
    return fd;
}

#define OPENS(path)                                                                                                    \
    mode_t mode = 0;                                                                                                   \
    if (flags & (O_CREAT | O_TMPFILE)) {                                                                               \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode = va_arg(rest, mode_t);                                                                                   \
        va_end(rest);                                                                                                  \
    }                                                                                                                  \
    int counts = folder && strstr(path, folder);                                                                       \
    int error = counts ? fault(OPEN) : 0;                                                                              \
    if (error) return errno = error, -1

int open(const char *path, int flags, ...) { OPENS(path); REAL(open); return opened(real(path, flags, mode), counts); }
int open64(const char *path, int flags, ...) { OPENS(path); REAL(open64); return opened(real(path, flags, mode), counts); }
int openat64(int at, const char *path, int flags, ...) { OPENS(path); REAL(openat64); return opened(real(at, path, flags, mode), counts); }

int close(int fd) {
    REAL(close);
    if (fd >= 0 && fd < (int)sizeof ours) ours[fd] = 0;
    return real(fd);
}

/* How much of a write is really done; -1 when none is, with errno set. */
static ssize_t part(int fd, size_t size) {
    static int torn;
    if (!watched(fd)) return (ssize_t)size;
    int error = fault(WRITE);
    if (torn) return torn = 0, errno = ENOSPC, -1;
    if (error == SHORT || error == TORN) return torn = error == TORN, (ssize_t)(size + 1) / 2;
    return error ? (errno = error, -1) : (ssize_t)size;
}

ssize_t write(int fd, const void *bytes, size_t size) {
    REAL(write);
    ssize_t some = part(fd, size);
    return some < 0 ? -1 : real(fd, bytes, (size_t)some);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
    REAL(pwrite64);
    ssize_t some = part(fd, size);
    return some < 0 ? -1 : real(fd, bytes, (size_t)some, at);
}

#define FAILS(call) int error = watched(fd) ? fault(call) : 0; if (error) return errno = error, -1

int fsync(int fd) { REAL(fsync); FAILS(SYNC); return real(fd); }
int fdatasync(int fd) { REAL(fdatasync); FAILS(SYNC); return real(fd); }
int ftruncate64(int fd, off64_t length) { REAL(ftruncate64); FAILS(TRUNCATE); return real(fd, length); }
