/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_ldconfig.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/wait.h>
#include <time.h>

#include "nvc_cleanup.h"
#include "nvc_syscalls.h"
#include "nvc_text.h"

#define MAX_DIRECTORIES 16
#define CONFINED_FAILED 125 /* exit status of a child that never became ldconfig; err says why */

#if defined(__x86_64__)
#define THIS_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_ARCH AUDIT_ARCH_AARCH64
#elif defined(__powerpc64__)
#define THIS_ARCH AUDIT_ARCH_PPC64LE
#else
#error "no audit architecture for the system call filter"
#endif

/* --- the program (parent) --------------------------------------------------------------------- */

static int open_program(const char *path, const char **name)
{
	int fd;

	*name = path[0] != '\0' ? path : "/sbin/ldconfig.real";
	fd = open(*name, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && path[0] == '\0') {
		*name = "/sbin/ldconfig";
		fd = open(*name, O_RDONLY | O_CLOEXEC);
	}
	return fd;
}

int nvc_ldconfig_load(const char *path, struct nvc_error *err)
{
	const char *name;
	struct stat st;
	nvc_autofd int program_fd = open_program(path, &name);
	int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

	if (program_fd < 0)
		return nvc_fail_errno(err, NVC_ELDCACHE, "open", name);
	if (fstat(program_fd, &st) < 0)
		return nvc_fail_errno(err, NVC_ELDCACHE, "stat", name);
	if (!S_ISREG(st.st_mode))
		return nvc_fail(err, NVC_ELDCACHE, "check", name, "not a regular file");
	nvc_autofd int copy_fd = memfd_create("ldconfig", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (copy_fd < 0)
		return nvc_fail_errno(err, NVC_ELDCACHE, "copy", name);
	for (off_t left = st.st_size; left > 0;) {
		ssize_t sent = sendfile(copy_fd, program_fd, NULL, (size_t)left);
		if (sent <= 0) {
			errno = sent == 0 ? EIO : errno;
			return nvc_fail_errno(err, NVC_ELDCACHE, "copy", name);
		}
		left -= sent;
	}
	if (fchmod(copy_fd, 0555) < 0 || fcntl(copy_fd, F_ADD_SEALS, seals) < 0)
		return nvc_fail_errno(err, NVC_ELDCACHE, "seal", name);
	return nvc_steal_fd(&copy_fd);
}

/* --- the cage (grandchild) ----------------------------------------------------------------------
 */

static int fail(struct nvc_error *err, const char *step, const char *path)
{
	return nvc_fail_errno(err, NVC_ELDCACHE, step, path);
}

/* Make the container's root, which is our working directory, the only tree there is. A descriptor
 * from before the clone still means a mount of the old namespace; the working directory moved. */
static int change_root(struct nvc_error *err)
{
	nvc_autofd int root_fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return fail(err, "mount private", "/");
	nvc_autofd int tree_fd = nvc_open_tree(root_fd, "",
	                                       NVC_OPEN_TREE_CLONE | NVC_OPEN_TREE_CLOEXEC |
	                                           AT_EMPTY_PATH | AT_RECURSIVE);
	/* Before 5.2 the old root stays mounted, out of reach: ldconfig gets no descriptor, no
	 * capability and no system call that would lead there. */
	if (tree_fd < 0 && errno == ENOSYS)
		return chroot(".") < 0 || chdir("/") < 0 ? fail(err, "chroot", "root") : 0;
	if (tree_fd < 0 || nvc_move_mount(tree_fd, root_fd) < 0)
		return fail(err, "mount operation", "root");
	/* No device of the image opens for it; where this call is missing, they do. */
	if (nvc_nodev_tree(tree_fd) < 0 && errno != ENOSYS)
		return fail(err, "mount attributes", "root");
	if (fchdir(tree_fd) < 0)
		return fail(err, "chdir", "root");
	/* EINVAL: the old root is the kernel's first one, an initramfs, which nothing can replace.
	 * It stays as above. */
	if (syscall(SYS_pivot_root, ".", ".") < 0) {
		if (errno != EINVAL)
			return fail(err, "pivot_root", "root");
	} else if (umount2(".", MNT_DETACH) < 0) {
		return fail(err, "unmount", "old root");
	}
	if (chroot(".") < 0 || chdir("/") < 0)
		return fail(err, "chroot", "root");
	return 0;
}

/* Kernel interfaces are none of ldconfig's business, and its private cache of file facts (which
 * it makes in /var/cache where it is missing) would stay behind in the container: an empty,
 * read-only tmpfs covers each. */
static int cover(struct nvc_error *err)
{
	static const char *const places[] = {"/proc", "/sys", "/dev", "/var/cache"};

	for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
		if (mount("tmpfs", places[i], "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
		          "size=4k") < 0 &&
		    errno != ENOENT && errno != ENOTDIR)
			return fail(err, "mount operation", places[i]);
	}
	return 0;
}

static int limit(struct nvc_error *err)
{
	static const struct {
		int what;
		rlim_t value;
	} limits[] = {
	    {RLIMIT_CPU, 10},    {RLIMIT_AS, (rlim_t)2 << 30},
	    {RLIMIT_NOFILE, 64}, {RLIMIT_FSIZE, (rlim_t)8 << 20},
	    {RLIMIT_CORE, 0},
	};

	for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
		struct rlimit both = {limits[i].value, limits[i].value};
		if (setrlimit((__rlimit_resource_t)limits[i].what, &both) < 0)
			return fail(err, "limit", "resources");
	}
	return 0;
}

static int drop_privileges(uid_t uid, gid_t gid, struct nvc_error *err)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};

	/* A user namespace may deny setgroups; then there are none to drop either. */
	if (syscall(SYS_setgroups, 0, NULL) < 0 && errno != EPERM)
		return fail(err, "privilege change", "groups");
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++) {
		if (prctl(PR_CAPBSET_DROP, cap) < 0 && errno != EPERM)
			return fail(err, "capability change", "bounding set");
	}
	if (syscall(SYS_setresgid, gid, gid, gid) < 0 || syscall(SYS_setresuid, uid, uid, uid) < 0)
		return fail(err, "privilege change", "owner");
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		return fail(err, "capability change", "ambient set");
	if (syscall(SYS_capset, &head, none) < 0)
		return fail(err, "capability change", "all sets");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return fail(err, "privilege change", "no_new_privs");
	return 0;
}

/* What a statically linked ldconfig calls, from its start to its end. */
static const int allowed[] = {
#ifdef SYS_open /* the older names exist on some architectures only */
    SYS_access,
    SYS_chmod,
    SYS_lstat,
    SYS_mkdir,
    SYS_open,
    SYS_readlink,
    SYS_rename,
    SYS_stat,
    SYS_symlink,
    SYS_unlink,
    SYS_getdents,
    SYS_getpgrp,
    SYS_time,
#endif
#ifdef SYS_arch_prctl
    SYS_arch_prctl,
#endif
    SYS_brk,
    SYS_chdir,
    SYS_clock_gettime,
    SYS_close,
    SYS_execveat,
    SYS_exit,
    SYS_exit_group,
    SYS_faccessat,
    SYS_fchmodat,
    SYS_fchmod,
    SYS_fcntl,
    SYS_fdatasync,
    SYS_fstat,
    SYS_fsync,
    SYS_ftruncate,
    SYS_futex,
    SYS_getcwd,
    SYS_getdents64,
    SYS_getegid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getpid,
    SYS_getrandom,
    SYS_gettid,
    SYS_gettimeofday,
    SYS_getuid,
    SYS_lseek,
    SYS_mkdirat,
    SYS_mmap,
    SYS_mprotect,
    SYS_mremap,
    SYS_munmap,
    SYS_newfstatat,
    SYS_openat,
    SYS_pread64,
    SYS_prlimit64,
    SYS_read,
    SYS_readlinkat,
    SYS_readv,
    SYS_renameat,
    SYS_rseq,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_set_robust_list,
    SYS_set_tid_address,
    SYS_statx,
    SYS_symlinkat,
    SYS_tgkill,
    SYS_uname,
    SYS_unlinkat,
    SYS_write,
    SYS_writev,
};

#define ALLOWED_COUNT (sizeof allowed / sizeof allowed[0])
_Static_assert(ALLOWED_COUNT < 250, "a jump of the filter spans at most 255 instructions");

static int filter_calls(struct nvc_error *err)
{
	struct sock_filter code[ALLOWED_COUNT + 6];
	size_t n = 0;

	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
	                                         offsetof(struct seccomp_data, arch));
	code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, THIS_ARCH, 1, 0);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
	                                         offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < ALLOWED_COUNT; i++)
		code[n++] =
		    (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)allowed[i],
		                                 (uint8_t)(ALLOWED_COUNT - i), 0);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {.len = (unsigned short)n, .filter = code};
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		return fail(err, "filter", "system calls");
	return 0;
}

static int build_arguments(const struct nvc_ldconfig *job, const char **argv, struct nvc_error *err)
{
	size_t n = 0;

	argv[n++] = "ldconfig";
	/* No links: the plan made those it needs, and the image keeps its own. */
	argv[n++] = "-X";
	argv[n++] = "-f";
	argv[n++] = "/etc/ld.so.conf";
	argv[n++] = "-C";
	argv[n++] = "/etc/ld.so.cache";
	for (size_t at = 0; at < job->directories_len;) {
		if (n == MAX_DIRECTORIES + 6)
			return nvc_fail(err, NVC_ELDCACHE, "check", NULL, "too many directories");
		argv[n++] = job->directories + at;
		at += strlen(job->directories + at) + 1;
	}
	argv[n] = NULL;
	return 0;
}

/* The words of a failing ldconfig go to the pipe, and there is nothing to read: an empty pipe,
 * since /dev/null may be whatever the image says. Everything else is closed on exec, also what the
 * caller left open (close_range is from 5.9, its flag from 5.11: before, that stays open). */
static int redirect(int words_fd, struct nvc_error *err)
{
	int empty_fds[2];

	(void)syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC);
	if (pipe2(empty_fds, O_CLOEXEC) < 0 || dup2(empty_fds[0], 0) < 0 || dup2(words_fd, 1) < 0 ||
	    dup2(words_fd, 2) < 0)
		return fail(err, "redirect", "output");
	return 0;
}

static int confine_and_exec(const struct nvc_ldconfig *job, int words_fd, struct nvc_error *err)
{
	const char *argv[MAX_DIRECTORIES + 7];
	char *const envp[] = {NULL};

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (build_arguments(job, argv, err) < 0 || redirect(words_fd, err) < 0 ||
	    change_root(err) < 0 || cover(err) < 0 || limit(err) < 0 ||
	    drop_privileges(job->uid, job->gid, err) < 0)
		return -1;
	/* Changing the uid cleared it. */
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (filter_calls(err) < 0)
		return -1;
	(void)syscall(SYS_execveat, job->program.fd, "", (char *const *)(uintptr_t)argv, envp,
	              AT_EMPTY_PATH);
	return fail(err, "execute", "ldconfig");
}

/* --- running it (worker) ------------------------------------------------------------------------
 */

static long now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Keep the last line of what it said until its end. False if that does not come in time. */
static bool last_words(int fd, int timeout_ms, char *out, size_t size)
{
	long deadline_ms = now_ms() + timeout_ms;
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	char text[512];
	size_t len = 0;
	bool in_time = true;

	for (;;) {
		long left = deadline_ms - now_ms();
		int ready = poll(&poll_fd, 1, left > 0 ? (int)left : 0);
		in_time = ready != 0;
		if (!in_time)
			break;
		ssize_t got = ready < 0 ? -1 : read(fd, text + len, sizeof text - 1 - len);
		if (got == 0 || (got < 0 && errno != EINTR))
			break;
		len += got > 0 ? (size_t)got : 0;
		if (len == sizeof text - 1) { /* keep the end */
			memmove(text, text + len / 2, len - len / 2);
			len -= len / 2;
		}
	}
	while (len > 0 && text[len - 1] == '\n')
		len--;
	text[len] = '\0';
	const char *line = strrchr(text, '\n');
	nvc_copy(out, size, line == NULL ? text : line + 1);
	return in_time;
}

static void append_number(char *text, size_t size, unsigned value)
{
	char digits[16];
	size_t len = strlen(text);

	nvc_copy(text + len, size - len, nvc_digits(digits + sizeof digits, value, 10));
}

static int judge(int status, const char *words, struct nvc_error *err)
{
	size_t len;

	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == CONFINED_FAILED)
		return -1; /* the child set err, in shared memory */
	if (WIFEXITED(status)) {
		(void)nvc_fail(err, NVC_ELDCACHE, "run", NULL,
		               "process /sbin/ldconfig failed with error code: ");
		append_number(err->msg, sizeof err->msg, (unsigned)WEXITSTATUS(status));
	} else {
		(void)nvc_fail(err, NVC_ELDCACHE, "run", NULL,
		               "process /sbin/ldconfig terminated with signal ");
		append_number(err->msg, sizeof err->msg, (unsigned)WTERMSIG(status));
	}
	if (words[0] != '\0') {
		len = strlen(err->msg);
		nvc_copy(err->msg + len, sizeof err->msg - len, " (");
		nvc_copy(err->msg + len + 2, sizeof err->msg - len - 2, words);
		len = strlen(err->msg);
		nvc_copy(err->msg + len, sizeof err->msg - len, ")");
	}
	return -1;
}

int nvc_ldconfig_run(const struct nvc_ldconfig *job, struct nvc_error *err)
{
	char words[256];
	int pipe_fds[2], status = 0;
	pid_t pid;

	if (fchdir(job->root_fd) < 0)
		return fail(err, "chdir", "root");
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return fail(err, "open", "pipe");
	pid = nvc_clone(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC);
	if (pid == 0) {
		(void)confine_and_exec(job, pipe_fds[1], err);
		_exit(CONFINED_FAILED);
	}
	(void)close(pipe_fds[1]);
	nvc_autofd int words_fd = pipe_fds[0];
	if (pid < 0)
		return fail(err, "process creation", "ldconfig");
	bool in_time = last_words(words_fd, job->program.timeout_ms, words, sizeof words);
	if (!in_time)
		(void)kill(pid, SIGKILL);
	while (waitpid(pid, &status, __WALL) < 0) {
		if (errno != EINTR)
			return fail(err, "process reaping", "ldconfig");
	}
	return in_time ? judge(status, words, err)
	               : nvc_fail(err, NVC_ELDCACHE, "run", NULL,
	                          "process /sbin/ldconfig did not finish in time");
}
