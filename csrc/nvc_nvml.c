/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_nvml.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "nvc_blocked.h"
#include "nvc_cleanup.h"
#include "nvc_nvml_ask.h"

#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#define NO_PIDFD_NAP_MS 2
#define REAP_MS         1000 /* after SIGKILL; a child stuck in the kernel is then left behind */

enum state { RUNNING, DONE, FAILED };

/* In memory shared with the child. The driver's code runs there, so that the parent trusts
 * nothing in it: numbers are range-checked, strings terminated again. */
struct record {
	int state; /* enum state, written last */
	struct nvc_error err;
	struct nvc_nvml_facts facts;
};

/* --- child -------------------------------------------------------------------------------- */

static int fail_text(struct nvc_error *err, enum nvc_code code, const char *step, const char *path,
                     const char *msg)
{
	(void)nvc_fail_errno(err, code, step, path);
	nvc_copy(err->msg, sizeof err->msg, msg);
	return -1;
}

/* Die with the thread that waits for us. The kernel forgets this when the user changes. */
static void follow_parent(pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(1);
}

static void reset_signals(void)
{
	struct sigaction action = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		(void)sigaction(sig, &action, NULL); /* some cannot be set */
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Hold none of the caller's descriptors: whoever waits for the end of a pipe must not wait for a
 * driver that hangs. */
static void drop_descriptors(void)
{
	int fd = open("/dev/null", O_RDWR);

	for (int i = 0; i < 3 && fd >= 0; i++)
		(void)dup2(fd, i);
	(void)syscall(SYS_close_range, 3u, ~0u, 0u); /* since 5.9 */
}

/* Load what NVML links to from the host, before the driver root hides it: a driver root may have
 * no C library, or one that does not fit the C library already running here. */
static void preload(void)
{
	static const char *const names[] = {
	    "libm.so.6",     "librt.so.1", "libpthread.so.0", "libdl.so.2",
#ifdef __aarch64__
	    "libgcc_s.so.1",
#endif
	};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		(void)dlopen(names[i], RTLD_NOW | RTLD_GLOBAL);
}

static int enter_root(const char *root, struct nvc_error *err)
{
	bool is_host = strcmp(root, "") == 0 || strcmp(root, "/") == 0;
	int result;

	if (!is_host)
		preload();
	result = is_host ? 0 : chroot(root);
	/* An ordinary user may in a user namespace of its own. */
	if (result < 0 && errno == EPERM)
		result = unshare(CLONE_NEWUSER) < 0 ? -1 : chroot(root);
	if (result < 0 || chdir("/") < 0)
		return fail_text(err, NVC_EDRIVER, "chroot", root, "change root failed");
	return 0;
}

static bool is_user(uid_t uid)
{
	uid_t real, effective, saved;

	return getresuid(&real, &effective, &saved) == 0 && real == uid && effective == uid &&
	       saved == uid;
}

static bool is_group(gid_t gid)
{
	gid_t real, effective, saved;

	return getresgid(&real, &effective, &saved) == 0 && real == gid && effective == gid &&
	       saved == gid;
}

/* Enter the root and become whom the options name. Who we are is asked before: in a user namespace
 * of our own without a mapping everybody looks like the overflow user. */
static int change_identity(const struct nvc_nvml_options *options, struct nvc_error *err)
{
	uid_t uid = options->uid == NVC_NVML_KEEP_ID ? geteuid() : options->uid;
	gid_t gid = options->gid == NVC_NVML_KEEP_ID ? getegid() : options->gid;
	bool is_already = is_user(uid) && is_group(gid);

	if (enter_root(options->root, err) < 0)
		return -1;
	if (is_already)
		return 0;
	if (setresgid(gid, gid, gid) < 0 || setgroups(1, &gid) < 0 ||
	    setresuid(uid, uid, uid) < 0) {
		if (errno == EINVAL && options->optional_ids)
			return 0;
		return fail_text(err, NVC_EDRIVER, "setresuid", NULL, "privilege change failed");
	}
	return 0;
}

static int drop_privileges(struct nvc_error *err)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return fail_text(err, NVC_EDRIVER, "prctl", NULL, "privilege change failed");
	if (syscall(SYS_capset, &header, none) < 0)
		return fail_text(err, NVC_EDRIVER, "capset", NULL, "capability change failed");
	return 0;
}

static int child_ask(const struct nvc_nvml_options *options, pid_t parent, struct record *record)
{
	static const struct rlimit no_core = {0, 0};
	struct nvc_error *err = &record->err;

	follow_parent(parent);
	(void)prctl(PR_SET_NAME, "nvc:[driver]");
	reset_signals();
	drop_descriptors();
	(void)setrlimit(RLIMIT_CORE, &no_core);
	if (change_identity(options, err) < 0 || drop_privileges(err) < 0)
		return -1;
	follow_parent(parent);
	return nvc_nvml_ask(options->library, &record->facts, err);
}

static _Noreturn void child_main(const struct nvc_nvml_options *options, pid_t parent,
                                 struct record *record)
{
	enum state state = child_ask(options, parent, record) < 0 ? FAILED : DONE;

	__atomic_store_n(&record->state, (int)state, __ATOMIC_RELEASE);
	_exit(0);
}

/* --- parent ------------------------------------------------------------------------------- */

static int64_t now_ms(void)
{
	struct timespec now = {0};

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Whether the child is gone; reaps it. */
static bool has_ended(pid_t pid)
{
	pid_t result = waitpid(pid, NULL, WNOHANG);

	return result == pid || (result < 0 && errno == ECHILD); /* ECHILD: reaped by others */
}

static bool wait_for(pid_t pid, int pidfd, int timeout_ms)
{
	int64_t deadline = now_ms() + timeout_ms;

	while (!has_ended(pid)) {
		int64_t left = deadline - now_ms();
		struct pollfd waiting = {.fd = pidfd, .events = POLLIN};

		if (left <= 0)
			return false;
		if (pidfd < 0 && left > NO_PIDFD_NAP_MS)
			left = NO_PIDFD_NAP_MS;
		(void)poll(&waiting, 1, (int)left); /* ignores a negative descriptor: a nap */
	}
	return true;
}

static void kill_child(pid_t pid, int pidfd)
{
	/* Without a descriptor this is safe too: the child was there when we last looked. */
	if (pidfd < 0 || syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0u) < 0)
		(void)kill(pid, SIGKILL);
	(void)wait_for(pid, pidfd, REAP_MS);
}

/* Fork with all signals blocked: a handler of the caller must not run in the child. */
static pid_t start_child(const struct nvc_nvml_options *options, struct record *record)
{
	pid_t parent = getpid(), pid;
	sigset_t all, before;

	sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		child_main(options, parent, record);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return pid;
}

static void take_facts(const struct nvc_nvml_facts *from, struct nvc_nvml_facts *out)
{
	*out = *from;
	out->blocked[0] = '\0';
	out->driver_version[sizeof out->driver_version - 1] = '\0';
	if (out->gpu_count > NVC_NVML_GPUS_MAX)
		out->gpu_count = NVC_NVML_GPUS_MAX;
	for (uint32_t i = 0; i < out->gpu_count; i++) {
		struct nvc_nvml_gpu *gpu = &out->gpus[i];

		gpu->uuid[sizeof gpu->uuid - 1] = '\0';
		gpu->name[sizeof gpu->name - 1] = '\0';
		if (gpu->mig_count > NVC_NVML_MIGS_MAX)
			gpu->mig_count = NVC_NVML_MIGS_MAX;
		for (uint32_t j = 0; j < gpu->mig_count; j++)
			gpu->migs[j].uuid[sizeof gpu->migs[j].uuid - 1] = '\0';
	}
}

static int take_error(const struct nvc_error *from, struct nvc_error *err)
{
	*err = *from;
	err->code = NVC_EDRIVER; /* the only one a child fails with */
	err->op_index = -1;
	err->step[sizeof err->step - 1] = '\0';
	err->path[sizeof err->path - 1] = '\0';
	err->msg[sizeof err->msg - 1] = '\0';
	return -1;
}

/* For a child that ended without a word. What it asked last, it said before. */
static int take_end(const struct record *record, enum nvc_code code, const char *msg,
                    struct nvc_error *err)
{
	struct nvc_error last;

	(void)take_error(&record->err, &last);
	return nvc_fail(err, code, last.step[0] != '\0' ? last.step : "nvml", NULL, msg);
}

static void unmap_record(struct record **record)
{
	if (*record != MAP_FAILED)
		(void)munmap(*record, sizeof **record);
}

int nvc_nvml_probe(const struct nvc_nvml_options *options, struct nvc_nvml_facts *out,
                   struct nvc_error *err)
{
	__attribute__((cleanup(unmap_record))) struct record *record =
	    mmap(NULL, sizeof *record, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	bool in_time;
	pid_t pid;
	int state;

	if (options->library[0] != '/')
		return nvc_fail(err, NVC_EINVAL, "nvml", options->library,
		                "library path is not absolute");
	if (record == MAP_FAILED)
		return nvc_fail_errno(err, NVC_EDRIVER, "mmap", NULL);
	record->facts.gpu_asked = -1;
	out->blocked[0] = '\0';
	pid = start_child(options, record);
	if (pid < 0)
		return fail_text(err, NVC_EDRIVER, "fork", NULL,
		                 "driver rpc service process creation failed");
	nvc_autofd int pidfd = (int)syscall(SYS_pidfd_open, pid, 0u); /* since 5.3 */
	in_time = wait_for(pid, pidfd, options->timeout_ms);
	if (!in_time) {
		nvc_blocked_path(pid, options->root, out->blocked, sizeof out->blocked);
		kill_child(pid, pidfd);
	}
	state = __atomic_load_n(&record->state, __ATOMIC_ACQUIRE);
	if (state == DONE) {
		take_facts(&record->facts, out);
		return 0;
	}
	out->gpu_asked = record->facts.gpu_asked;
	if (state == FAILED)
		return take_error(&record->err, err);
	if (!in_time)
		return take_end(record, NVC_ETIMEOUT, "driver rpc error: timed out", err);
	return take_end(record, NVC_ECRASH, "driver rpc error: failed to process request", err);
}
