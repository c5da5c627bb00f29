/* SPDX-License-Identifier: Apache-2.0 */
/* needs: error blocked nvml nvml_ask */
/* What the probe does not change in the process that calls it, and that it answers whatever that
 * process does with its children. Arguments: a scratch directory, and libraries made from
 * fake_nvml.c: one that works, one that hangs, one that crashes. */
#include "nvc_nvml.h"

#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"

static struct nvc_nvml_options options_for(const char *library, int timeout_ms)
{
	return (struct nvc_nvml_options){.root = "/",
	                                 .library = library,
	                                 .uid = NVC_NVML_KEEP_ID,
	                                 .gid = NVC_NVML_KEEP_ID,
	                                 .timeout_ms = timeout_ms};
}

static int probe(const char *library, int timeout_ms, struct nvc_error *err)
{
	struct nvc_nvml_options options = options_for(library, timeout_ms);
	struct nvc_nvml_facts facts = {0};

	memset(err, 0, sizeof *err);
	return nvc_nvml_probe(&options, &facts, err) < 0 ? -1 : (int)facts.gpu_count;
}

static int count_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	while (dir != NULL && readdir(dir) != NULL)
		count++;
	(void)closedir(dir);
	return count;
}

static void on_signal(int sig)
{
	(void)sig;
}

/* Everything of the calling process that a careless child could change. */
struct self {
	sigset_t mask;
	struct sigaction action;
	char directory[4096];
	mode_t umask;
	int files;
	int no_new_privs;
	uid_t uid;
};

static struct self look(void)
{
	struct self self = {.uid = geteuid(), .files = count_files()};

	(void)pthread_sigmask(SIG_SETMASK, NULL, &self.mask);
	(void)sigaction(SIGUSR1, NULL, &self.action);
	if (getcwd(self.directory, sizeof self.directory) == NULL)
		abort();
	self.umask = umask(0);
	(void)umask(self.umask);
	self.no_new_privs = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
	return self;
}

static void test_caller_unchanged(struct tap *tap, char **libraries)
{
	struct sigaction action = {.sa_handler = on_signal};
	struct nvc_error err;
	struct self before, after;
	sigset_t usr2;

	(void)sigaction(SIGUSR1, &action, NULL);
	sigemptyset(&usr2);
	sigaddset(&usr2, SIGUSR2);
	(void)pthread_sigmask(SIG_BLOCK, &usr2, NULL);
	for (int i = 0; i < 3; i++) {
		before = look();
		(void)probe(libraries[i], 200, &err);
		after = look();
		CHECK(tap, memcmp(&before.mask, &after.mask, sizeof before.mask) == 0);
		CHECK(tap, sigismember(&after.mask, SIGUSR2) == 1);
		CHECK(tap, after.action.sa_handler == on_signal);
		CHECK_STR(tap, after.directory, before.directory);
		CHECK(tap, after.umask == before.umask);
		CHECK(tap, after.files == before.files);
		CHECK(tap, after.no_new_privs == before.no_new_privs);
		CHECK(tap, after.uid == before.uid);
		CHECK(tap, waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
	}
}

static void check_answers(struct tap *tap, char **libraries)
{
	struct nvc_error err;

	CHECK(tap, probe(libraries[0], 30000, &err) == 2);
	CHECK(tap, probe(libraries[1], 100, &err) == -1);
	CHECK(tap, err.code == NVC_ETIMEOUT);
	CHECK_STR(tap, err.msg, "driver rpc error: timed out");
	CHECK_STR(tap, err.step, "nvmlInit_v2");
	CHECK(tap, probe(libraries[2], 30000, &err) == -1);
	CHECK(tap, err.code == NVC_ECRASH);
	CHECK_STR(tap, err.msg, "driver rpc error: failed to process request");
	CHECK_STR(tap, err.step, "nvmlInit_v2");
}

/* A caller that ignores SIGCHLD has no zombies: waiting for the child fails. */
static void test_ignored_sigchld(struct tap *tap, char **libraries)
{
	(void)signal(SIGCHLD, SIG_IGN);
	check_answers(tap, libraries);
	(void)signal(SIGCHLD, SIG_DFL);
}

/* A caller with a thread that reaps every child there is. */
static void *reap_all(void *stop)
{
	while (!__atomic_load_n((bool *)stop, __ATOMIC_ACQUIRE)) {
		if (waitpid(-1, NULL, 0) < 0)
			(void)sched_yield(); /* no child at the moment */
	}
	return NULL;
}

static void test_reaped_by_others(struct tap *tap, char **libraries)
{
	bool stop = false;
	pthread_t thread;

	if (pthread_create(&thread, NULL, reap_all, &stop) != 0)
		abort();
	check_answers(tap, libraries);
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	(void)pthread_join(thread, NULL);
}

static void test_relative_library(struct tap *tap)
{
	struct nvc_error err;

	CHECK(tap, probe("libnvidia-ml.so.1", 30000, &err) == -1);
	CHECK(tap, err.code == NVC_EINVAL);
	CHECK_STR(tap, err.path, "libnvidia-ml.so.1");
}

/* Deny a system call from here on, as an old kernel would. */
static void deny(unsigned number)
{
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		abort();
}

static void test_without_pidfd(struct tap *tap, char **libraries)
{
	deny(SYS_pidfd_open);
	CHECK(tap, syscall(SYS_pidfd_open, getpid(), 0) == -1 && errno == ENOSYS);
	check_answers(tap, libraries);
	test_ignored_sigchld(tap, libraries);
}

int main(int argc, char **argv)
{
	struct tap tap = {0};

	if (argc != 5)
		return 2;
	test_caller_unchanged(&tap, argv + 2);
	check_answers(&tap, argv + 2);
	test_ignored_sigchld(&tap, argv + 2);
	test_reaped_by_others(&tap, argv + 2);
	test_relative_library(&tap);
	test_without_pidfd(&tap, argv + 2);
	return tap_done(&tap);
}
