/* SPDX-License-Identifier: Apache-2.0 */
/* deny CALL[,CALL...] -- COMMAND [ARG...]: run a command as if on a kernel without some system
 * calls.
 *
 * For it and all that it starts these calls fail with ENOSYS. Those that Python interpreters make
 * are counted, and told at the end. The exit status is the command's (128 and the number of the
 * signal that killed it); but 1 if it succeeded and no interpreter ever attempted one of the calls:
 * then nothing was proved about that one. 2: this program itself failed.
 *
 * Processes that outlive the command go on without these calls: the kernel refuses them itself once
 * nobody listens. A filter like this cannot be installed below another one. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALLS_MAX 16

#if defined(__x86_64__)
#define THIS_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_ARCH AUDIT_ARCH_AARCH64
#else
#error "the name of this architecture for seccomp is not known"
#endif

/* Numbers are the same on every architecture since 5.1 (asm-generic/unistd.h). */
static const struct known {
	const char *name;
	int nr;
} known[] = {
    {"open_tree", 428}, {"move_mount", 429}, {"fsopen", 430},        {"fsconfig", 431},
    {"fsmount", 432},   {"openat2", 437},    {"mount_setattr", 442},
};

struct denied {
	const struct known *call;
	unsigned long refused; /* to Python interpreters */
};

struct supervisor {
	struct denied calls[CALLS_MAX];
	size_t count;
	int listener_fd, signal_fd;
	struct seccomp_notif *request; /* as large as this kernel's may be */
	size_t request_size;
	struct seccomp_notif_resp *response;
	size_t response_size;
};

static _Noreturn void die(const char *what)
{
	(void)fprintf(stderr, "deny: %s: %m\n", what);
	exit(2);
}

static _Noreturn void usage(void)
{
	(void)fputs("usage: deny CALL[,CALL...] -- COMMAND [ARG...]\ncalls:", stderr);
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
		(void)fprintf(stderr, " %s", known[i].name);
	(void)fputc('\n', stderr);
	exit(2);
}

static void read_calls(struct supervisor *all, char *list)
{
	char *state = NULL;

	for (char *name = strtok_r(list, ",", &state); name != NULL;
	     name = strtok_r(NULL, ",", &state)) {
		size_t i = 0, n = sizeof known / sizeof known[0];
		while (i < n && strcmp(known[i].name, name) != 0)
			i++;
		if (i == n || all->count == CALLS_MAX)
			usage();
		all->calls[all->count++] = (struct denied){&known[i], 0};
	}
	if (all->count == 0)
		usage();
}

/* --- in the child --------------------------------------------------------------------------------
 */

/* Install the filter and return the descriptor on which it asks. Without no_new_privs, so that
 * setuid programs go on working, as long as we may. */
static int install(const struct supervisor *all)
{
	struct sock_filter code[CALLS_MAX + 6];
	struct sock_fprog program = {.filter = code};
	uint8_t count = (uint8_t)all->count;
	size_t n = 0;
	long fd;

	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
	                                         offsetof(struct seccomp_data, arch));
	code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, THIS_ARCH, 0,
	                                         (uint8_t)(count + 1));
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
	                                         offsetof(struct seccomp_data, nr));
	for (uint8_t i = 0; i < count; i++)
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
		                                         (uint32_t)all->calls[i].call->nr,
		                                         (uint8_t)(count - i), 0);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
	program.len = (unsigned short)n;
	fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
	             &program);
	if (fd < 0 && errno == EACCES && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
		fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
		             &program);
	return (int)fd;
}

union fd_message {
	char space[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

static void send_fd(int socket_fd, int fd)
{
	union fd_message control = {{0}};
	char byte = 0;
	struct iovec data = {&byte, 1};
	struct msghdr message = {.msg_iov = &data,
	                         .msg_iovlen = 1,
	                         .msg_control = &control,
	                         .msg_controllen = sizeof control};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(head), &fd, sizeof fd);
	if (sendmsg(socket_fd, &message, 0) != 1)
		die("send");
}

/* Every descriptor of ours is closed by exec. */
static _Noreturn void run(const struct supervisor *all, int socket_fd, const sigset_t *mask,
                          char **command)
{
	int fd = install(all);

	if (fd < 0)
		die("seccomp");
	send_fd(socket_fd, fd);
	(void)signal(SIGINT, SIG_DFL);
	(void)signal(SIGQUIT, SIG_DFL);
	(void)sigprocmask(SIG_SETMASK, mask, NULL);
	(void)execvp(command[0], command);
	(void)fprintf(stderr, "deny: %s: %m\n", command[0]);
	_exit(127);
}

/* --- in the parent -------------------------------------------------------------------------------
 */

/* Returns -1 if the child ended without sending one. */
static int receive_fd(int socket_fd)
{
	union fd_message control;
	char byte;
	struct iovec data = {&byte, 1};
	struct msghdr message = {.msg_iov = &data,
	                         .msg_iovlen = 1,
	                         .msg_control = &control,
	                         .msg_controllen = sizeof control};
	const struct cmsghdr *head;
	int fd;

	if (recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC) != 1)
		return -1;
	head = CMSG_FIRSTHDR(&message);
	if (head == NULL || head->cmsg_type != SCM_RIGHTS)
		return -1;
	memcpy(&fd, CMSG_DATA(head), sizeof fd);
	return fd;
}

static void allocate(struct supervisor *all)
{
	struct seccomp_notif_sizes sizes;

	if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) < 0)
		die("seccomp");
	all->request_size =
	    sizes.seccomp_notif > sizeof *all->request ? sizes.seccomp_notif : sizeof *all->request;
	all->response_size = sizes.seccomp_notif_resp > sizeof *all->response
	                         ? sizes.seccomp_notif_resp
	                         : sizeof *all->response;
	all->request = malloc(all->request_size);
	all->response = malloc(all->response_size);
	if (all->request == NULL || all->response == NULL)
		die("memory");
}

static bool is_python(pid_t pid)
{
	char link[64], path[4096];
	const char *slash;
	ssize_t len;

	(void)snprintf(link, sizeof link, "/proc/%d/exe", pid);
	len = readlink(link, path, sizeof path - 1);
	path[len < 0 ? 0 : len] = '\0';
	slash = strrchr(path, '/');
	return slash != NULL && strncmp(slash + 1, "python", strlen("python")) == 0;
}

/* Refuse one call. Whoever made it may be dead by now, at any step: ENOENT. */
static void answer(struct supervisor *all)
{
	memset(all->request, 0, all->request_size);
	memset(all->response, 0, all->response_size);
	if (ioctl(all->listener_fd, SECCOMP_IOCTL_NOTIF_RECV, all->request) < 0) {
		if (errno != ENOENT && errno != EINTR)
			die("receive");
		return;
	}
	for (size_t i = 0; i < all->count; i++) {
		if (all->calls[i].call->nr == all->request->data.nr &&
		    is_python((pid_t)all->request->pid))
			all->calls[i].refused++;
	}
	all->response->id = all->request->id;
	all->response->error = -ENOSYS;
	if (ioctl(all->listener_fd, SECCOMP_IOCTL_NOTIF_SEND, all->response) < 0 && errno != ENOENT)
		die("answer");
}

/* The command ends when it wants to: an interrupt from the terminal reaches it as well as us, a
 * termination is passed on. */
static void watch_signals(struct supervisor *all, sigset_t *old)
{
	sigset_t set;

	(void)signal(SIGCHLD, SIG_DFL);
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGQUIT, SIG_IGN);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	(void)sigaddset(&set, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &set, old);
	all->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (all->signal_fd < 0)
		die("signalfd");
}

/* Answer until the command ends; return its status. */
static int serve(struct supervisor *all, pid_t command)
{
	struct pollfd fds[] = {{all->signal_fd, POLLIN, 0}, {all->listener_fd, POLLIN, 0}};
	struct signalfd_siginfo info;
	int status;

	while (waitpid(command, &status, WNOHANG) != command) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			die("poll");
		if ((fds[1].revents & POLLIN) != 0)
			answer(all);
		else if (fds[1].revents != 0) /* no process has the filter any more */
			fds[1].fd = -1;
		while (read(all->signal_fd, &info, sizeof info) > 0) {
			if (info.ssi_signo == SIGTERM)
				(void)kill(command, SIGTERM);
		}
	}
	return status;
}

static int summarise(const struct supervisor *all, int result)
{
	(void)fputs("deny: refused", stderr);
	for (size_t i = 0; i < all->count; i++)
		(void)fprintf(stderr, "%s %s %lu", i == 0 ? "" : ",", all->calls[i].call->name,
		              all->calls[i].refused);
	(void)fputc('\n', stderr);
	if (result != 0)
		return result;
	for (size_t i = 0; i < all->count; i++) {
		if (all->calls[i].refused != 0)
			continue;
		(void)fprintf(stderr, "deny: %s was never attempted\n", all->calls[i].call->name);
		result = 1;
	}
	return result;
}

int main(int argc, char **argv)
{
	struct supervisor all = {.listener_fd = -1};
	int sockets[2], status;
	sigset_t mask;
	pid_t pid;

	if (argc < 4 || strcmp(argv[2], "--") != 0)
		usage();
	read_calls(&all, argv[1]);
	allocate(&all);
	watch_signals(&all, &mask);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0)
		die("socketpair");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0)
		run(&all, sockets[1], &mask, argv + 3);
	(void)close(sockets[1]);
	all.listener_fd = receive_fd(sockets[0]);
	status = serve(&all, pid);
	if (all.listener_fd < 0)
		return 2;
	return summarise(&all, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}
