/* Preloaded into a program, tells it a time of day that is off by CLOCK_OFF_S seconds, and takes that back where the
 * program waits until a time of day: the kernel knows nothing of it. Clocks that measure how long something takes are
 * left alone. libfaketime is no help here: it does not know cnd_timedwait of C11, by which librdkafka waits. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

/* No uptime is so long, and no time of day so short. */
#define TIME_OF_DAY_MIN_S 1000000000

static time_t off_s;
static int (*real_cnd)(cnd_t *, mtx_t *, const struct timespec *);
static int (*real_cond)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);

__attribute__((constructor)) static void prepare(void) {
    const char *text = getenv("CLOCK_OFF_S");
    off_s = text ? atol(text) : 0;
    real_cnd = dlsym(RTLD_NEXT, "cnd_timedwait");
    real_cond = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += off_s;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise))
        return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into) {
    struct timespec precise;
    if (clock_gettime(CLOCK_REALTIME, &precise))
        return (time_t)-1;
    if (into)
        *into = precise.tv_sec;
    return precise.tv_sec;
}

int timespec_get(struct timespec *now, int base) {
    return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, now) ? base : 0;
}

static struct timespec true_time(const struct timespec *until) {
    struct timespec corrected = *until;
    if (corrected.tv_sec > TIME_OF_DAY_MIN_S)
        corrected.tv_sec -= off_s;
    return corrected;
}

int cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex, const struct timespec *restrict until) {
    struct timespec corrected = true_time(until);
    return real_cnd(cond, mutex, &corrected);
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    struct timespec corrected = true_time(until);
    return real_cond(cond, mutex, &corrected);
}
