/* A quota that is used up while the file that QUOTA_FLAG names is there: with LD_PRELOAD, every write
   to a plain file fails with EDQUOT. Files that are open already may be read and truncated. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static int is_refused(int file) {
    const char *flag = getenv("QUOTA_FLAG");
    struct stat status;
    return flag && access(flag, F_OK) == 0 && fstat(file, &status) == 0 && S_ISREG(status.st_mode);
}

#define REFUSE(file, result) \
    if (is_refused(file)) { errno = EDQUOT; return result; }

ssize_t write(int file, const void *data, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    REFUSE(file, -1)
    return real(file, data, size);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    REFUSE(file, -1)
    return real(file, data, size, at);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t at) { return pwrite64(file, data, size, at); }

int posix_fallocate64(int file, off64_t at, off64_t size) {
    static int (*real)(int, off64_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "posix_fallocate64");
    return is_refused(file) ? EDQUOT : real(file, at, size);
}

int posix_fallocate(int file, off_t at, off_t size) { return posix_fallocate64(file, at, size); }
