/* SPDX-License-Identifier: Apache-2.0 */
/* inject PID CONTROL RESULT: make the workers of a process that uses libnvc fail or die.
 *
 * It traces PID's main thread, its children made by a bare clone (libnvc's workers) and all of
 * theirs. Threads and what PID forks are let go at once; PID itself never stops at its own system
 * calls. It says "ready" on its standard output, and ends with its standard input or with PID. The
 * kernel then lets go of whatever is still traced, in whatever state it is.
 *
 * CONTROL is read when a worker starts. It says `gen N`, then a line `MODE N` for each fault, in
 * their order. The Nth call that changes state since the start, or since the last fault, then
 *   fail-before, fail-after                fails with EIO, not executed or executed
 *   kill-before, kill-after                kills the worker
 *   kill-parent-before, kill-parent-after  kills PID
 *   terminate-parent-after                 ends PID by SIGTERM
 *   interrupt-parent-after                 sends PID a SIGINT, and goes on once PID gets it
 *
 * RESULT begins anew with each generation: `gen N`, `call NAME` for each call that changes state,
 * in order, `fired MODE N NAME DETAIL` for each fault. It is complete before a call goes on. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "inject_calls.h"

#define TRACEES_MAX 64
#define FAULTS_MAX  16
#define OPTIONS                                                                                    \
	(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK)

#if defined(__x86_64__)
#define THIS_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_ARCH AUDIT_ARCH_AARCH64
#else
#error "how a system call is skipped is not known for this architecture"
#endif

enum mode {
	NONE,
	FAIL_BEFORE,
	FAIL_AFTER,
	KILL_BEFORE,
	KILL_AFTER,
	KILL_PARENT_BEFORE,
	KILL_PARENT_AFTER,
	TERMINATE_PARENT_AFTER,
	INTERRUPT_PARENT_AFTER,
	MODES
};

static const char *const mode_names[MODES] = {
    [NONE] = "none",
    [FAIL_BEFORE] = "fail-before",
    [FAIL_AFTER] = "fail-after",
    [KILL_BEFORE] = "kill-before",
    [KILL_AFTER] = "kill-after",
    [KILL_PARENT_BEFORE] = "kill-parent-before",
    [KILL_PARENT_AFTER] = "kill-parent-after",
    [TERMINATE_PARENT_AFTER] = "terminate-parent-after",
    [INTERRUPT_PARENT_AFTER] = "interrupt-parent-after",
};

struct fault {
	enum mode mode;
	long at;
};

struct tracee {
	pid_t tid; /* 0: a free place */
	pid_t root;
	pid_t waits_for; /* stays stopped until this process has got its signal */
	enum mode mode;  /* of the fault that meets the call at work */
};

struct injector {
	pid_t target;
	bool target_gone;
	const char *control;
	int result_fd;
	long generation, count;
	size_t fault, fault_count; /* the one that is armed, and how many there are */
	struct fault faults[FAULTS_MAX];
	struct tracee tracees[TRACEES_MAX];
};

static void die(const char *what)
{
	(void)fprintf(stderr, "inject: %s: %m\n", what);
	exit(1);
}

/* --- control and result --------------------------------------------------------------------------
 */

/* One write a line, so that no reader ever sees a part of one. */
__attribute__((format(printf, 2, 3))) static void report(const struct injector *in,
                                                         const char *format, ...)
{
	char line[4608];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(line, sizeof line, format, args);
	va_end(args);
	if (len < 0 || (size_t)len >= sizeof line || write(in->result_fd, line, (size_t)len) != len)
		die("result");
}

static void add_fault(struct injector *in, const char *name, long at)
{
	for (enum mode mode = FAIL_BEFORE; mode < MODES; mode++) {
		if (strcmp(name, mode_names[mode]) != 0 || in->fault_count == FAULTS_MAX)
			continue;
		in->faults[in->fault_count++] = (struct fault){mode, at};
		return;
	}
	errno = EINVAL;
	die(name);
}

/* Begin anew if there is a new generation; a file that names none has number 0. */
static void read_control(struct injector *in)
{
	FILE *file = fopen(in->control, "re");
	long generation = 0, at;
	char name[32];

	if (file == NULL)
		return;
	(void)fscanf(file, "gen %ld\n", &generation);
	if (generation != in->generation) {
		in->generation = generation;
		in->count = 0;
		in->fault = in->fault_count = 0;
		while (fscanf(file, "%31s %ld\n", name, &at) == 2)
			add_fault(in, name, at);
		if (ftruncate(in->result_fd, 0) < 0)
			die("result");
		report(in, "gen %ld\n", in->generation);
	}
	(void)fclose(file);
}

/* --- what is traced ------------------------------------------------------------------------------
 */

static struct tracee *find(struct injector *in, pid_t tid)
{
	for (size_t i = 0; i < TRACEES_MAX; i++) {
		if (in->tracees[i].tid == tid)
			return &in->tracees[i];
	}
	return NULL;
}

static bool is_tracing(const struct injector *in)
{
	for (size_t i = 0; i < TRACEES_MAX; i++) {
		if (in->tracees[i].tid != 0)
			return true;
	}
	return false;
}

struct identity {
	int process, parent;
	int exit_signal; /* only what fork makes sends SIGCHLD */
};

static bool read_proc(pid_t tid, const char *name, char *out, size_t size)
{
	char path[64];
	ssize_t len;
	int fd;

	(void)snprintf(path, sizeof path, "/proc/%d/%s", tid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	len = read(fd, out, size - 1);
	(void)close(fd);
	out[len < 0 ? 0 : len] = '\0';
	return len > 0;
}

static bool identify(pid_t tid, struct identity *out)
{
	char text[4096], *at;

	if (!read_proc(tid, "status", text, sizeof text))
		return false;
	at = strstr(text, "\nTgid:");
	if (at == NULL || sscanf(at, "\nTgid: %d", &out->process) != 1)
		return false;
	at = strstr(text, "\nPPid:");
	if (at == NULL || sscanf(at, "\nPPid: %d", &out->parent) != 1)
		return false;
	if (!read_proc(tid, "stat", text, sizeof text))
		return false;
	at = strrchr(text, ')'); /* ends field 2; the exit signal is 38 */
	for (int field = 2; at != NULL && field < 38; field++)
		at = strchr(at + 1, ' ');
	return at != NULL && sscanf(at, "%d", &out->exit_signal) == 1;
}

/* Find the worker at the root of a new thread's chain, perhaps itself; 0 if it has none. */
static pid_t find_root(struct injector *in, pid_t tid)
{
	const struct tracee *near;
	struct identity who;

	if (!identify(tid, &who) || who.process == in->target)
		return 0;
	if (who.process == tid && who.parent == in->target)
		return who.exit_signal == SIGCHLD ? 0 : tid;
	near = find(in, who.process == tid ? who.parent : who.process);
	return near == NULL ? 0 : near->root;
}

/* Take a new thread, or let it go. It may show up before its parent tells of it. */
static void adopt(struct injector *in, pid_t tid)
{
	pid_t root = find_root(in, tid);
	struct tracee *place = find(in, 0);

	if (root == 0 || place == NULL) {
		(void)ptrace(PTRACE_DETACH, tid, NULL, NULL);
		return;
	}
	if (root == tid)
		read_control(in);
	*place = (struct tracee){.tid = tid, .root = root};
	(void)ptrace(PTRACE_SYSCALL, tid, NULL, NULL);
}

/* Let go on what waits for a thread. */
static void release(struct injector *in, pid_t tid)
{
	for (size_t i = 0; i < TRACEES_MAX; i++) {
		struct tracee *one = &in->tracees[i];
		if (one->tid == 0 || one->waits_for != tid)
			continue;
		one->waits_for = 0;
		(void)ptrace(PTRACE_SYSCALL, one->tid, NULL, NULL);
	}
}

static void bury(struct injector *in, pid_t tid)
{
	struct tracee *dead = find(in, tid);

	if (dead != NULL)
		*dead = (struct tracee){0};
	if (tid == in->target)
		in->target_gone = true;
	release(in, tid);
}

/* --- faults --------------------------------------------------------------------------------------
 */

static void skip_call(pid_t tid)
{
#if defined(__x86_64__)
	struct user_regs_struct regs;
	struct iovec set = {&regs, sizeof regs};

	if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &set) < 0)
		return;
	regs.orig_rax = (unsigned long long)-1;
	(void)ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &set);
#else
	int number = -1;
	struct iovec set = {&number, sizeof number};

	(void)ptrace(PTRACE_SETREGSET, tid, NT_ARM_SYSTEM_CALL, &set);
#endif
}

static void set_result(pid_t tid, int error)
{
	struct user_regs_struct regs;
	struct iovec set = {&regs, sizeof regs};

	if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &set) < 0)
		return;
#if defined(__x86_64__)
	regs.rax = (unsigned long long)-error;
#else
	regs.regs[0] = (unsigned long long)-error;
#endif
	(void)ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &set);
}

/* Send a signal, and keep the thread where it is until the other one is gone, or interrupted: what
 * should die with that one has its signal by then. */
static void signal_and_wait(struct injector *in, struct tracee *one)
{
	bool parent = one->mode >= KILL_PARENT_BEFORE;
	pid_t victim = parent ? in->target : one->root;
	int number = one->mode == INTERRUPT_PARENT_AFTER   ? SIGINT
	             : one->mode == TERMINATE_PARENT_AFTER ? SIGTERM
	                                                   : SIGKILL;

	if (parent ? in->target_gone : find(in, victim) == NULL)
		return;
	one->waits_for = victim;
	(void)kill(victim, number);
}

static void at_entry(struct injector *in, struct tracee *one,
                     const struct __ptrace_syscall_info *info)
{
	uint64_t args[6], nr = info->entry.nr;
	const struct fault *fault = &in->faults[in->fault];
	char detail[4096];
	const char *name;

	one->mode = NONE;
	memcpy(args, info->entry.args, sizeof args);
	name = inject_changes(one->tid, nr, args, detail, sizeof detail);
	if (name == NULL)
		return;
	report(in, "call %s\n", name);
	in->count++;
	if (in->fault == in->fault_count || in->count != fault->at)
		return;
	report(in, "fired %s %ld %s %s\n", mode_names[fault->mode], fault->at, name, detail);
	one->mode = fault->mode;
	in->fault++;
	in->count = 0;
	if (one->mode == FAIL_BEFORE || one->mode == KILL_BEFORE || one->mode == KILL_PARENT_BEFORE)
		skip_call(one->tid);
	if (one->mode == KILL_BEFORE || one->mode == KILL_PARENT_BEFORE)
		signal_and_wait(in, one);
}

static void at_exit(struct injector *in, struct tracee *one)
{
	if (one->mode == FAIL_BEFORE || one->mode == FAIL_AFTER)
		set_result(one->tid, EIO);
	if (one->mode == KILL_AFTER || one->mode >= KILL_PARENT_AFTER)
		signal_and_wait(in, one);
	one->mode = NONE;
}

static void at_call(struct injector *in, struct tracee *one)
{
	struct __ptrace_syscall_info info = {0};

	if (ptrace(PTRACE_GET_SYSCALL_INFO, one->tid, sizeof info, &info) < 0)
		return;
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY && info.arch == THIS_ARCH)
		at_entry(in, one, &info);
	else if (info.op == PTRACE_SYSCALL_INFO_EXIT)
		at_exit(in, one);
}

/* --- the tracer ----------------------------------------------------------------------------------
 */

/* Handle what waitpid says of a thread, and let it run on. Every request may find that the thread
 * was killed in the meantime: then waitpid says that too. */
static void handle(struct injector *in, pid_t tid, int status)
{
	struct tracee *one = find(in, tid);
	int signal = WSTOPSIG(status), event = status >> 16;
	int go_on = tid == in->target ? PTRACE_CONT : PTRACE_SYSCALL;

	if (!WIFSTOPPED(status)) {
		bury(in, tid);
		return;
	}
	if (one == NULL && tid != in->target) {
		adopt(in, tid);
		return;
	}
	if (event == PTRACE_EVENT_STOP && signal != SIGTRAP) { /* a group-stop stays one */
		(void)ptrace(PTRACE_LISTEN, tid, NULL, NULL);
		return;
	}
	if (one != NULL && event == 0 && signal == (SIGTRAP | 0x80)) {
		at_call(in, one);
		if (one->waits_for != 0)
			return;
	}
	if (event != 0 || signal == (SIGTRAP | 0x80))
		signal = 0;
	(void)ptrace((enum __ptrace_request)go_on, tid, NULL, (void *)(intptr_t)signal);
	if (tid == in->target && signal == SIGINT)
		release(in, tid); /* its system call is at an end */
}

static int watch_children(void)
{
	sigset_t set;

	(void)signal(SIGCHLD, SIG_DFL);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void trace(struct injector *in, int signal_fd)
{
	struct pollfd fds[] = {{STDIN_FILENO, POLLIN, 0}, {signal_fd, POLLIN, 0}};
	struct signalfd_siginfo info;
	int status;
	pid_t tid;

	while (!in->target_gone || is_tracing(in)) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			die("poll");
		if (fds[0].revents != 0 && read(STDIN_FILENO, &info, sizeof info) <= 0)
			return;
		while (read(signal_fd, &info, sizeof info) > 0)
			continue;
		while ((tid = waitpid(-1, &status, __WALL | WNOHANG)) > 0)
			handle(in, tid, status);
	}
}

int main(int argc, char **argv)
{
	struct injector in = {.generation = -1};
	int signal_fd = watch_children();

	if (argc != 4 || signal_fd < 0) {
		(void)fputs("usage: inject PID CONTROL RESULT\n", stderr);
		return 2;
	}
	in.target = (pid_t)strtol(argv[1], NULL, 10);
	in.control = argv[2];
	in.result_fd = open(argv[3], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	if (in.result_fd < 0)
		die(argv[3]);
	if (ptrace(PTRACE_SEIZE, in.target, NULL, (void *)(uintptr_t)OPTIONS) < 0)
		die("trace");
	if (puts("ready") < 0 || fflush(stdout) != 0)
		die("ready");
	trace(&in, signal_fd);
	return 0;
}
