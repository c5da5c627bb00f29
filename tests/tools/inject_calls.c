/* SPDX-License-Identifier: Apache-2.0 */
#include "inject_calls.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "nvc_syscalls.h"

#define FSCONFIG_CREATE_EXCL 8u

/* When a call counts. */
enum rule {
	ALWAYS,
	IF_FILE,     /* argument 0 is a descriptor of what a file system holds */
	IF_WRITABLE, /* the flags, argument `arg`, open for writing or make a file */
	IF_HOW,      /* the same, in the struct open_how of openat2 */
	IF_CLONED,   /* open_tree makes a mount */
	IF_CREATED,  /* fsconfig makes a file system */
	IF_ATTACHED, /* bpf attaches or detaches */
};

/* What the detail is made of: the path in argument N, the descriptor in argument N, or nothing. */
#define NO_PATH (-1)
#define FD(n)   (-2 - (n)) /* its own inverse */

struct call {
	const char *name;
	uint64_t nr;
	enum rule rule;
	int arg; /* of the flags */
	int path;
};

#define CALL(name, ...) {#name, SYS_##name, __VA_ARGS__}

static const struct call calls[] = {
#ifdef SYS_open /* the older names exist on some architectures only */
    CALL(chmod, ALWAYS, 0, 0),
    CALL(chown, ALWAYS, 0, 0),
    CALL(creat, ALWAYS, 0, 0),
    CALL(lchown, ALWAYS, 0, 0),
    CALL(link, ALWAYS, 0, 1),
    CALL(mkdir, ALWAYS, 0, 0),
    CALL(mknod, ALWAYS, 0, 0),
    CALL(open, IF_WRITABLE, 1, 0),
    CALL(rename, ALWAYS, 0, 1),
    CALL(rmdir, ALWAYS, 0, 0),
    CALL(symlink, ALWAYS, 0, 1),
    CALL(unlink, ALWAYS, 0, 0),
#endif
#ifdef SYS_renameat
    CALL(renameat, ALWAYS, 0, 3),
#endif
    CALL(bpf, IF_ATTACHED, 0, NO_PATH),
    CALL(chroot, ALWAYS, 0, 0),
    CALL(fchmod, ALWAYS, 0, FD(0)),
    CALL(fchmodat, ALWAYS, 0, 1),
    CALL(fchown, ALWAYS, 0, FD(0)),
    CALL(fchownat, ALWAYS, 0, 1),
    CALL(fsconfig, IF_CREATED, 0, NO_PATH),
    CALL(fsmount, ALWAYS, 0, NO_PATH),
    CALL(ftruncate, ALWAYS, 0, FD(0)),
    CALL(linkat, ALWAYS, 0, 3),
    CALL(mkdirat, ALWAYS, 0, 1),
    CALL(mknodat, ALWAYS, 0, 1),
    CALL(mount, ALWAYS, 0, 1),
    CALL(mount_setattr, ALWAYS, 0, FD(0)),
    CALL(move_mount, ALWAYS, 0, FD(2)),
    CALL(open_tree, IF_CLONED, 0, 1),
    CALL(openat, IF_WRITABLE, 2, 1),
    CALL(openat2, IF_HOW, 0, 1),
    CALL(pivot_root, ALWAYS, 0, 0),
    CALL(pwrite64, IF_FILE, 0, FD(0)),
    CALL(renameat2, ALWAYS, 0, 3),
    CALL(sendfile, IF_FILE, 0, FD(0)),
    CALL(setns, ALWAYS, 0, FD(0)),
    CALL(symlinkat, ALWAYS, 0, 2),
    CALL(truncate, ALWAYS, 0, 0),
    CALL(umount2, ALWAYS, 0, 0),
    CALL(unlinkat, ALWAYS, 0, 1),
    CALL(unshare, ALWAYS, 0, NO_PATH),
    CALL(utimensat, ALWAYS, 0, 1),
    CALL(write, IF_FILE, 0, FD(0)),
    CALL(writev, IF_FILE, 0, FD(0)),
};

static bool peek(pid_t tid, uint64_t address, void *out, size_t size)
{
	struct iovec here = {out, size};
	struct iovec there = {(void *)(uintptr_t)address, size};

	return process_vm_readv(tid, &here, 1, &there, 1, 0) == (ssize_t)size;
}

/* Read a string; a byte at a time, because the page after it may not be there. */
static void peek_text(pid_t tid, uint64_t address, char *out, size_t size)
{
	size_t len = 0;

	while (len < size - 1 && peek(tid, address + len, out + len, 1) && out[len] != '\0')
		len++;
	out[len] = '\0';
}

/* Tell what a descriptor of a thread is. */
static void describe_fd(pid_t tid, uint64_t fd, char *out, size_t size)
{
	char link[64];
	ssize_t len;

	(void)snprintf(link, sizeof link, "/proc/%d/fd/%d", tid, (int)fd);
	len = readlink(link, out, size - 1);
	out[len < 0 ? 0 : len] = '\0';
}

/* Whether a file system holds it: not a pipe, a socket, a terminal or memory. */
static bool is_file(const char *description)
{
	static const char *const others[] = {"/memfd:", "/dev/pts/", "/dev/tty", "/dev/console"};

	if (description[0] != '/')
		return false;
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
		if (strncmp(description, others[i], strlen(others[i])) == 0)
			return false;
	}
	return true;
}

static bool is_writable(uint64_t flags)
{
	if ((flags & O_PATH) != 0)
		return false;
	return (flags & (O_CREAT | O_TRUNC)) != 0 || (flags & O_ACCMODE) != O_RDONLY;
}

static bool applies(const struct call *call, pid_t tid, const uint64_t args[6])
{
	struct nvc_open_how how;
	char text[256];

	switch (call->rule) {
	case IF_FILE:
		describe_fd(tid, args[0], text, sizeof text);
		return is_file(text);
	case IF_WRITABLE:
		return is_writable(args[call->arg]);
	case IF_HOW:
		return peek(tid, args[2], &how, sizeof how) && is_writable(how.flags);
	case IF_CLONED:
		return (args[2] & NVC_OPEN_TREE_CLONE) != 0;
	case IF_CREATED:
		return args[1] == NVC_FSCONFIG_CREATE || args[1] == FSCONFIG_CREATE_EXCL;
	case IF_ATTACHED:
		return args[0] == BPF_PROG_ATTACH || args[0] == BPF_PROG_DETACH;
	case ALWAYS:
	default:
		return true;
	}
}

static void describe(const struct call *call, pid_t tid, const uint64_t args[6], char *out,
                     size_t size)
{
	out[0] = '\0';
	if (call->path >= 0)
		peek_text(tid, args[call->path], out, size);
	else if (call->path != NO_PATH)
		describe_fd(tid, args[FD(call->path)], out, size);
	for (; *out != '\0'; out++) {
		if (*out == '\n')
			*out = '?';
	}
}

const char *inject_changes(pid_t tid, uint64_t nr, const uint64_t args[6], char *detail,
                           size_t size)
{
	for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
		if (calls[i].nr != nr)
			continue;
		if (!applies(&calls[i], tid, args))
			return NULL;
		describe(&calls[i], tid, args, detail, size);
		return calls[i].name;
	}
	return NULL;
}
