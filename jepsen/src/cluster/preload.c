/* Loaded before the C library into a server process: shifts the wall clock, and keeps a journal by
 * which the harness takes back, after a kill, every change to the data directory that was not synced.
 * That is what a power cut does, and what a kill alone does not, since the kernel keeps written pages.
 *
 * Environment:
 *   MEMORYGATE_JEPSEN_CLOCK    file of 32 bytes: offset in ns (signed), count of shifted readings,
 *                              whether syncs are refused, count of refused syncs
 *   MEMORYGATE_JEPSEN_DATA     the directory whose changes are noted
 *   MEMORYGATE_JEPSEN_JOURNAL  file that the records are appended to
 *   MEMORYGATE_JEPSEN_KEPT     directory on the same file system for links to what is removed
 *
 * A record is written before its change is made (and a sync's after it was done), so that a kill in
 * between leaves at worst a record of something that did not happen, which is harmless to take back.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = 1, TRUNCATE = 2, SYNC = 3, CREATE = 4, RENAME = 5, UNLINK = 6, LINK = 7,
       CREATED = 8 };

/* One record of the journal; then first_bytes and second_bytes of payload. */
struct record {
    uint64_t kind, sequence, inode, directory, at, size, first_bytes, second_bytes;
};

#define DESCRIPTORS_MAX 65536
#define REAL(name) ((__typeof__(&name))real(#name, &real_##name))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static volatile int64_t *shift;
static char data[PATH_MAX], kept[PATH_MAX - 64];
static size_t data_length;
static int journal = -1;
static uint64_t sequence;
static unsigned char is_noted[DESCRIPTORS_MAX];

static void *real(const char *name, void **found) {
    if (!*found) *found = dlsym(RTLD_NEXT, name);
    return *found;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("MEMORYGATE_JEPSEN_CLOCK");
    if (path) {
        int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
        if (fd >= 0) {
            void *map = mmap(NULL, 32, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            if (map != MAP_FAILED) shift = map;
            syscall(SYS_close, fd);
        }
    }
    const char *directory = getenv("MEMORYGATE_JEPSEN_DATA");
    const char *journal_path = getenv("MEMORYGATE_JEPSEN_JOURNAL");
    const char *kept_path = getenv("MEMORYGATE_JEPSEN_KEPT");
    if (directory && journal_path && kept_path) {
        data_length = (size_t)snprintf(data, sizeof data, "%s", directory);
        snprintf(kept, sizeof kept, "%s", kept_path);
        /* The records of a process come after those of the one before it. */
        struct timespec now;
        syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
        sequence = (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
        journal = syscall(SYS_openat, AT_FDCWD, journal_path,
                          O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    }
}

/* ---- the clock ---- */

static void *real_clock_gettime, *real_gettimeofday, *real_time;

static int64_t shifted(void) {
    if (!shift || shift[0] == 0) return 0;
    __atomic_fetch_add((int64_t *)&shift[1], 1, __ATOMIC_RELAXED);
    return shift[0];
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int result = REAL(clock_gettime)(clock, at);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t by = shifted();
        if (by) {
            int64_t ns = at->tv_sec * 1000000000LL + at->tv_nsec + by;
            at->tv_sec = ns / 1000000000LL;
            at->tv_nsec = ns % 1000000000LL;
        }
    }
    return result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    int result = REAL(gettimeofday)(at, zone);
    if (result == 0) {
        int64_t us = at->tv_sec * 1000000LL + at->tv_usec + shifted() / 1000;
        at->tv_sec = us / 1000000LL;
        at->tv_usec = us % 1000000LL;
    }
    return result;
}

time_t time(time_t *out) {
    time_t now = REAL(time)(NULL) + shifted() / 1000000000LL;
    if (out) *out = now;
    return now;
}

/* ---- the journal ---- */

static int is_inside(const char *path) {
    return journal >= 0 && path && strncmp(path, data, data_length) == 0 &&
           (path[data_length] == '/' || path[data_length] == 0);
}

static uint64_t inode_of(const char *path) {
    struct stat stat;
    return lstat(path, &stat) == 0 ? stat.st_ino : 0;
}

static uint64_t directory_of(const char *path) {
    char parent[PATH_MAX];
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash) *slash = 0;
    return inode_of(parent);
}

/* Callers hold the lock. A journal that cannot be written would make the run a lie. */
static void note(uint64_t kind, uint64_t inode, uint64_t directory, uint64_t at, uint64_t size,
                 const void *first, size_t first_bytes, const void *second, size_t second_bytes) {
    struct record record = {kind, ++sequence, inode, directory, at, size, first_bytes, second_bytes};
    struct iovec parts[3] = {{&record, sizeof record},
                             {(void *)first, first_bytes},
                             {(void *)second, second_bytes}};
    size_t length = sizeof record + first_bytes + second_bytes;
    if (syscall(SYS_writev, journal, parts, 3) != (ssize_t)length) abort();
}

static int is_noted_fd(int fd) {
    return journal >= 0 && fd >= 0 && fd < DESCRIPTORS_MAX && is_noted[fd];
}

/* What a write or truncation of [at, end) destroys, before it happens. */
static void note_bytes(int fd, uint64_t kind, uint64_t at, uint64_t end) {
    struct stat stat;
    if (fstat(fd, &stat) != 0 || !S_ISREG(stat.st_mode)) return;
    uint64_t size = (uint64_t)stat.st_size, length = 0;
    char *old = NULL;
    if (end > size) end = size;
    if (at < end) {
        /* The descriptor may be for writing only. */
        char self[64];
        snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
        int reader = syscall(SYS_openat, AT_FDCWD, self, O_RDONLY | O_CLOEXEC, 0);
        old = malloc(end - at);
        if (reader >= 0 && old) {
            ssize_t got;
            while (at + length < end &&
                   (got = pread(reader, old + length, end - at - length, (off_t)(at + length))) > 0)
                length += (uint64_t)got;
        }
        if (reader >= 0) syscall(SYS_close, reader);
    }
    note(kind, stat.st_ino, 0, at, size, old, length, NULL, 0);
    free(old);
}

static uint64_t offset_of(int fd) {
    int flags = fcntl(fd, F_GETFL);
    struct stat stat;
    if (flags >= 0 && (flags & O_APPEND) && fstat(fd, &stat) == 0) return (uint64_t)stat.st_size;
    off_t at = lseek(fd, 0, SEEK_CUR);
    return at < 0 ? 0 : (uint64_t)at;
}

/* Links what is about to lose its name to a place from which it can come back. */
static void keep(const char *path, char *name, size_t name_bytes) {
    snprintf(name, name_bytes, "%s/%d-%llu", kept, (int)getpid(), (unsigned long long)sequence + 1);
    if (syscall(SYS_linkat, AT_FDCWD, path, AT_FDCWD, name, 0) != 0) name[0] = 0;
}

/* ---- changes of contents ---- */

static void *real_write, *real_pwrite, *real_pwrite64, *real_writev, *real_pwritev, *real_pwritev64;
static void *real_ftruncate, *real_ftruncate64, *real_fallocate, *real_fallocate64;
static void *real_posix_fallocate, *real_posix_fallocate64;

#define NOTING(fd, kind, at, end, call)                 \
    do {                                                \
        if (!is_noted_fd(fd)) return call;              \
        pthread_mutex_lock(&lock);                      \
        int before = errno;                             \
        note_bytes(fd, kind, at, end);                  \
        errno = before;                                 \
        __typeof__(call) result = call;                 \
        before = errno;                                 \
        pthread_mutex_unlock(&lock);                    \
        errno = before;                                 \
        return result;                                  \
    } while (0)

static size_t total(const struct iovec *parts, int count) {
    size_t length = 0;
    for (int at = 0; at < count; at++) length += parts[at].iov_len;
    return length;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    NOTING(fd, WRITE, offset_of(fd), offset_of(fd) + length, REAL(write)(fd, bytes, length));
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    NOTING(fd, WRITE, offset_of(fd), offset_of(fd) + total(parts, count),
           REAL(writev)(fd, parts, count));
}
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    NOTING(fd, WRITE, (uint64_t)at, (uint64_t)at + length, REAL(pwrite)(fd, bytes, length, at));
}
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    NOTING(fd, WRITE, (uint64_t)at, (uint64_t)at + length, REAL(pwrite64)(fd, bytes, length, at));
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    NOTING(fd, WRITE, (uint64_t)at, (uint64_t)at + total(parts, count),
           REAL(pwritev)(fd, parts, count, at));
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) {
    NOTING(fd, WRITE, (uint64_t)at, (uint64_t)at + total(parts, count),
           REAL(pwritev64)(fd, parts, count, at));
}
int ftruncate(int fd, off_t size) {
    NOTING(fd, TRUNCATE, (uint64_t)size, UINT64_MAX, REAL(ftruncate)(fd, size));
}
int ftruncate64(int fd, off64_t size) {
    NOTING(fd, TRUNCATE, (uint64_t)size, UINT64_MAX, REAL(ftruncate64)(fd, size));
}
int fallocate(int fd, int mode, off_t at, off_t length) {
    NOTING(fd, WRITE, (uint64_t)at, (uint64_t)(at + length), REAL(fallocate)(fd, mode, at, length));
}
int fallocate64(int fd, int mode, off64_t at, off64_t length) {
    NOTING(fd, WRITE, (uint64_t)at, (uint64_t)(at + length), REAL(fallocate64)(fd, mode, at, length));
}
int posix_fallocate(int fd, off_t at, off_t length) {
    NOTING(fd, WRITE, (uint64_t)at, (uint64_t)(at + length), REAL(posix_fallocate)(fd, at, length));
}
int posix_fallocate64(int fd, off64_t at, off64_t length) {
    NOTING(fd, WRITE, (uint64_t)at, (uint64_t)(at + length), REAL(posix_fallocate64)(fd, at, length));
}

/* Copies within the kernel are refused, so that callers fall back to reading and writing. */
ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t length,
                        unsigned flags) {
    if (is_noted_fd(out)) {
        errno = EXDEV;
        return -1;
    }
    return syscall(SYS_copy_file_range, in, in_at, out, out_at, length, flags);
}
ssize_t sendfile64(int out, int in, off64_t *at, size_t length) {
    if (is_noted_fd(out)) {
        errno = EINVAL;
        return -1;
    }
    return syscall(SYS_sendfile, out, in, at, length);
}
ssize_t sendfile(int out, int in, off_t *at, size_t length) { return sendfile64(out, in, at, length); }

/* ---- syncs ---- */

static void *real_fsync, *real_fdatasync;

static int synced(int fd, uint64_t since, int result) {
    if (result == 0 && is_noted_fd(fd)) {
        struct stat stat;
        int before = errno;
        if (fstat(fd, &stat) == 0) {
            pthread_mutex_lock(&lock);
            note(SYNC, stat.st_ino, 0, since, 0, NULL, 0, NULL, 0);
            pthread_mutex_unlock(&lock);
        }
        errno = before;
    }
    return result;
}

/* What is noted after the beginning of a sync may not be part of it. */
static uint64_t now_noted(int fd) {
    if (!is_noted_fd(fd)) return 0;
    pthread_mutex_lock(&lock);
    uint64_t now = sequence;
    pthread_mutex_unlock(&lock);
    return now;
}

/* The disk has taken the writes and cannot make them last. */
static int is_refused(int fd) {
    if (!shift || shift[2] == 0 || !is_noted_fd(fd)) return 0;
    __atomic_fetch_add((int64_t *)&shift[3], 1, __ATOMIC_RELAXED);
    errno = EIO;
    return 1;
}

int fsync(int fd) {
    if (is_refused(fd)) return -1;
    uint64_t since = now_noted(fd);
    return synced(fd, since, REAL(fsync)(fd));
}
int fdatasync(int fd) {
    if (is_refused(fd)) return -1;
    uint64_t since = now_noted(fd);
    return synced(fd, since, REAL(fdatasync)(fd));
}

/* ---- names ---- */

static void *real_open, *real_open64, *real_openat, *real_openat64, *real_creat, *real_close;
static void *real_rename, *real_unlink, *real_link, *real_linkat;

static void opened(int fd, int is_in) {
    if (fd >= 0 && fd < DESCRIPTORS_MAX) is_noted[fd] = (unsigned char)is_in;
}

/* Returns the record of a file that is about to be created. */
static uint64_t note_open(const char *path, int flags) {
    struct stat stat;
    if (lstat(path, &stat) != 0) {
        if (!(flags & O_CREAT)) return 0;
        note(CREATE, 0, directory_of(path), 0, 0, path, strlen(path), NULL, 0);
        return sequence;
    }
    if ((flags & O_TRUNC) && S_ISREG(stat.st_mode)) {
        int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
        if (fd >= 0) {
            note_bytes(fd, TRUNCATE, 0, UINT64_MAX);
            syscall(SYS_close, fd);
        }
    }
    return 0;
}

/* Says which file it became. */
static void note_opened(int fd, uint64_t created) {
    struct stat stat;
    if (fd >= 0 && created && fstat(fd, &stat) == 0)
        note(CREATED, stat.st_ino, 0, created, 0, NULL, 0, NULL, 0);
}

#define OPENING(path, flags, call)                      \
    do {                                                \
        if (!is_inside(path)) {                         \
            int outside = call;                         \
            opened(outside, 0);                         \
            return outside;                             \
        }                                               \
        pthread_mutex_lock(&lock);                      \
        uint64_t created = note_open(path, flags);      \
        int fd = call;                                  \
        int before = errno;                             \
        opened(fd, 1);                                  \
        note_opened(fd, created);                       \
        pthread_mutex_unlock(&lock);                    \
        errno = before;                                 \
        return fd;                                      \
    } while (0)

#define MODE(flags)                                     \
    mode_t mode = 0;                                    \
    if ((flags) & (O_CREAT | O_TMPFILE)) {              \
        va_list rest;                                   \
        va_start(rest, flags);                          \
        mode = va_arg(rest, mode_t);                    \
        va_end(rest);                                   \
    }

int open(const char *path, int flags, ...) {
    MODE(flags)
    OPENING(path, flags, REAL(open)(path, flags, mode));
}
int open64(const char *path, int flags, ...) {
    MODE(flags)
    OPENING(path, flags, REAL(open64)(path, flags, mode));
}
int openat(int at, const char *path, int flags, ...) {
    MODE(flags)
    OPENING(path, flags, REAL(openat)(at, path, flags, mode));
}
int openat64(int at, const char *path, int flags, ...) {
    MODE(flags)
    OPENING(path, flags, REAL(openat64)(at, path, flags, mode));
}
int creat(const char *path, mode_t mode) {
    OPENING(path, O_CREAT | O_WRONLY | O_TRUNC, REAL(creat)(path, mode));
}
int close(int fd) {
    opened(fd, 0);
    return REAL(close)(fd);
}

int rename(const char *from, const char *to) {
    if (!is_inside(to)) return REAL(rename)(from, to);
    char name[PATH_MAX];
    char both[2 * PATH_MAX];
    pthread_mutex_lock(&lock);
    keep(to, name, sizeof name);
    int length = snprintf(both, sizeof both, "%s\n%s", from, to);
    note(RENAME, inode_of(from), directory_of(to), 0, 0, both, (size_t)length, name, strlen(name));
    int result = REAL(rename)(from, to);
    int before = errno;
    pthread_mutex_unlock(&lock);
    errno = before;
    return result;
}

static void note_unlink(const char *path) {
    char name[PATH_MAX];
    keep(path, name, sizeof name);
    note(UNLINK, inode_of(path), directory_of(path), 0, 0, path, strlen(path), name, strlen(name));
}

int unlink(const char *path) {
    if (!is_inside(path)) return REAL(unlink)(path);
    pthread_mutex_lock(&lock);
    note_unlink(path);
    int result = REAL(unlink)(path);
    int before = errno;
    pthread_mutex_unlock(&lock);
    errno = before;
    return result;
}

int link(const char *from, const char *to) {
    if (!is_inside(to)) return REAL(link)(from, to);
    pthread_mutex_lock(&lock);
    note(LINK, inode_of(from), directory_of(to), 0, 0, to, strlen(to), NULL, 0);
    int result = REAL(link)(from, to);
    int before = errno;
    pthread_mutex_unlock(&lock);
    errno = before;
    return result;
}
int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
    if (!is_inside(to)) return REAL(linkat)(from_at, from, to_at, to, flags);
    pthread_mutex_lock(&lock);
    note(LINK, inode_of(from), directory_of(to), 0, 0, to, strlen(to), NULL, 0);
    int result = REAL(linkat)(from_at, from, to_at, to, flags);
    int before = errno;
    pthread_mutex_unlock(&lock);
    errno = before;
    return result;
}
