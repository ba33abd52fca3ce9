/* A disk that fails on order. Loaded into a process by LD_PRELOAD, it counts the calls on files below one folder and
 * lets some of them fail. Only what SQLite's unix VFS and Rust's File use is wrapped (see `nm` of the test). The
 * counts are exact where one thread touches those files. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum call { OPEN, WRITE, SYNC, TRUNCATE, UNLINK, CALLS };
static const char *const names[CALLS] = {"open", "write", "sync", "truncate", "unlink"};

static const char *folder;      /* FAULT_FOLDER: the files that count */
static long counted[CALLS];
static long injected;
static enum call which = CALLS; /* FAULT_CALL: the kind that fails */
static long first;              /* FAULT_FIRST: from this call on, counted from 1 */
static long last;               /* FAULT_LAST: up to this one */
static int with;                /* FAULT_ERROR: EIO, ENOSPC; SHORT writes half, TORN does so and then finds no space;
                                 * KILL ends the process in place of the call; LOSS does so and takes back what was
                                 * not synced, as a loss of power may; SOME takes back every other part of it;
                                 * SLOW takes two seconds and then works */
enum { SHORT = -1, TORN = -2, KILL = -3, LOSS = -4, SOME = -5, SLOW = -6 };

static char ours[4096]; /* by descriptor */

__attribute__((constructor)) static void begin(void) {
    folder = getenv("FAULT_FOLDER");
    const char *call = getenv("FAULT_CALL"), *error = getenv("FAULT_ERROR");
    for (int i = 0; call && i < CALLS; i++)
        if (!strcmp(call, names[i])) which = i;
    first = call ? atol(getenv("FAULT_FIRST")) : 0;
    last = call ? atol(getenv("FAULT_LAST")) : 0;
    if (error)
        with = !strcmp(error, "SHORT")  ? SHORT
               : !strcmp(error, "TORN") ? TORN
               : !strcmp(error, "KILL") ? KILL
               : !strcmp(error, "LOSS") ? LOSS
               : !strcmp(error, "SOME") ? SOME
               : !strcmp(error, "SLOW") ? SLOW
               : !strcmp(error, "EIO")  ? EIO
                                        : ENOSPC;
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("FAULT_COUNTS");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) return;
    for (int i = 0; i < CALLS; i++) fprintf(file, "%s %ld\n", names[i], counted[i]);
    fprintf(file, "injected %ld\n", injected);
    fclose(file);
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* What was changed and not synced since, newest first. Names (creation, removal) are taken as durable at once. */
struct change {
    struct change *before;
    ino_t file;
    int fd;           /* opened anew, for a duplicate would hold the lock of the original */
    off_t at, length; /* where; how long the file was */
    size_t size;
    char old[];
};
static struct change *changes;

static struct stat look(int fd) {
    struct stat stat = {0};
    (void)!fstat(fd, &stat);
    return stat;
}

static void remember(int fd, off_t at, size_t size) {
    if (with != LOSS && with != SOME) return;
    REAL(open64);
    struct change *change = malloc(sizeof *change + size);
    change->before = changes;
    change->file = look(fd).st_ino;
    change->length = look(fd).st_size;
    change->at = at;
    ssize_t old = pread(fd, change->old, size, at);
    change->size = old < 0 ? 0 : (size_t)old;
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    change->fd = real(path, O_RDWR);
    changes = change;
}

static void synced(int fd) {
    ino_t file = look(fd).st_ino;
    for (struct change **at = &changes; *at;)
        if ((*at)->file == file) *at = (*at)->before;
        else at = &(*at)->before;
}

static void lose_power(void) {
    REAL(pwrite64);
    __typeof__(&ftruncate64) cut = (__typeof__(&ftruncate64))dlsym(RTLD_NEXT, "ftruncate64");
    int odd = 0;
    for (struct change *change = changes; change; change = change->before) {
        if (with == SOME && (odd = !odd)) continue;
        if (change->size) (void)!real(change->fd, change->old, change->size, change->at);
        (void)!cut(change->fd, change->length);
    }
}

/* Counts a call; 0, or how it fails. */
static int fault(enum call call) {
    long number = ++counted[call];
    if (call != which || number < first || number > last) return 0;
    injected++;
    if (with == SLOW) return sleep(2), 0;
    if (with == LOSS || with == SOME) lose_power();
    if (with <= KILL) {
        end();
        kill(getpid(), SIGKILL);
    }
    return with;
}

static int watched(int fd) { return fd >= 0 && fd < (int)sizeof ours && ours[fd]; }

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
    if (watched(fd)) remember(fd, lseek(fd, 0, SEEK_CUR), size);
    return some < 0 ? -1 : real(fd, bytes, (size_t)some);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
    REAL(pwrite64);
    ssize_t some = part(fd, size);
    if (watched(fd)) remember(fd, at, size);
    return some < 0 ? -1 : real(fd, bytes, (size_t)some, at);
}

#define FAILS(call) int error = watched(fd) ? fault(call) : 0; if (error) return errno = error, -1

int unlink(const char *path) {
    REAL(unlink);
    int error = folder && strstr(path, folder) ? fault(UNLINK) : 0;
    if (error) return errno = error, -1;
    return real(path);
}

int fsync(int fd) { REAL(fsync); FAILS(SYNC); synced(fd); return real(fd); }
int fdatasync(int fd) { REAL(fdatasync); FAILS(SYNC); synced(fd); return real(fd); }

int ftruncate64(int fd, off64_t length) {
    REAL(ftruncate64);
    FAILS(TRUNCATE);
    off_t size = watched(fd) ? look(fd).st_size : 0;
    if (size > length) remember(fd, length, (size_t)(size - length));
    return real(fd, length);
}
