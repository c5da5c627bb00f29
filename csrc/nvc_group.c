/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_group.h"

#include <errno.h>
#include <linux/stat.h>
#include <string.h>
#include <sys/socket.h>

#include "nvc_cleanup.h"
#include "nvc_mount.h"
#include "nvc_syscalls.h"

#define DEPTH_MAX 4096

int nvc_groups_open(struct nvc_groups *out, struct nvc_error *err)
{
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, out->keep_fds) < 0)
		return nvc_fail_errno(err, NVC_EINTERNAL, "open", "socket");
	return 0;
}

int nvc_groups_enter(struct nvc_groups *groups, int fds_fd)
{
	groups->table_fd = openat(fds_fd, "../mountinfo", O_RDONLY | O_CLOEXEC);
	return groups->table_fd < 0 ? -1 : 0;
}

void nvc_groups_close(struct nvc_groups *groups)
{
	nvc_close_fd(&groups->table_fd);
	nvc_close_fd(&groups->keep_fds[0]);
	nvc_close_fd(&groups->keep_fds[1]);
}

/* --- the mount table ---------------------------------------------------------------------------
 */

/* Reads "id parent dev root point options tags… - …" byte by byte: a line may be long, and no
 * field but the first and the tags matters. */
struct scan {
	uint64_t wanted, id;
	uint32_t field;       /* 0: the id; from 6 on the tags, up to "-" */
	size_t matched;       /* bytes of "shared:" at the start of a tag */
	bool in_tags, tagged; /* of this line */
	bool shared, found;
	struct nvc_groups *note; /* what is told of all mounts; may be NULL */
};

static void end_line(struct scan *s)
{
	struct nvc_groups *note = s->note;

	if (s->id == s->wanted) {
		s->found = true;
		s->shared = s->tagged;
	}
	if (note != NULL && note->known_count < NVC_GROUPS_KNOWN) {
		note->known[note->known_count].mnt_id = s->id;
		note->known[note->known_count++].shared = s->tagged;
	}
	s->id = s->field = 0;
	s->matched = 0;
	s->tagged = false;
}

static void scan_byte(struct scan *s, char c)
{
	static const char tag[] = "shared:";

	if (c == '\n') {
		end_line(s);
		return;
	}
	if (c == ' ') {
		s->field++;
		s->in_tags = s->field == 6 || (s->field > 6 && s->in_tags);
		s->matched = 0;
		return;
	}
	if (s->field == 0) {
		s->id = s->id * 10 + (uint64_t)(c - '0');
	} else if (s->in_tags && s->matched == 0 && c == '-') {
		s->in_tags = false;
	} else if (s->in_tags && s->matched < sizeof tag - 1) {
		s->matched = c == tag[s->matched] ? s->matched + 1 : sizeof tag;
		s->tagged = s->tagged || s->matched == sizeof tag - 1;
	}
}

static int scan_table(int table_fd, struct scan *s)
{
	char text[4096];
	ssize_t got;

	if (lseek(table_fd, 0, SEEK_SET) < 0)
		return -1;
	while ((got = read(table_fd, text, sizeof text)) > 0) {
		for (ssize_t i = 0; i < got; i++)
			scan_byte(s, text[i]);
	}
	return got < 0 ? -1 : 0;
}

int nvc_groups_is_shared(struct nvc_groups *groups, uint64_t mnt_id, bool *out)
{
	struct scan scan = {.wanted = mnt_id, .note = groups};

	*out = false;
	for (uint32_t i = 0; i < groups->known_count; i++) {
		if (groups->known[i].mnt_id == mnt_id) {
			*out = groups->known[i].shared;
			return 0;
		}
	}
	/* A kernel that does not tell mounts apart (< 5.8) cannot put one back either. */
	if (mnt_id == 0)
		return 0;
	groups->known_count = 0;
	if (scan_table(groups->table_fd, &scan) < 0)
		return -1;
	if (!scan.found) {
		errno = ESTALE;
		return -1;
	}
	*out = scan.shared;
	return 0;
}

int nvc_groups_has(const struct nvc_groups *groups, uint64_t mnt_id, bool *out)
{
	struct scan scan = {.wanted = mnt_id};

	if (scan_table(groups->table_fd, &scan) < 0)
		return -1;
	*out = scan.found;
	return 0;
}

/* --- leaving and returning ---------------------------------------------------------------------
 */

static bool is_root(int fd)
{
	struct statx stx;

	return statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &stx) == 0 &&
	       (stx.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

int nvc_groups_climb(int dir_fd, int fd)
{
	struct nvc_mount_id wanted, now;
	nvc_autofd int at = fcntl(is_root(fd) ? fd : dir_fd, F_DUPFD_CLOEXEC, 0);

	if (at < 0 || nvc_mount_identify(fd, "", &wanted) < 0)
		return -1;
	for (int depth = 0; depth < DEPTH_MAX && !is_root(at); depth++) {
		int up = openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		nvc_close_fd(&at);
		at = up;
		if (at < 0)
			return -1;
	}
	/* Somebody may have moved the directories while we climbed. */
	if (nvc_mount_identify(at, "", &now) < 0)
		return -1;
	if (now.mnt_id != wanted.mnt_id) {
		errno = ESTALE;
		return -1;
	}
	return nvc_steal_fd(&at);
}

static int set_propagation(int fd, uint64_t propagation)
{
	struct nvc_mount_attr attr = {.propagation = propagation};

	return nvc_mount_setattr(fd, &attr);
}

struct message {
	struct msghdr head;
	struct iovec part;
	char byte;
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
};

static void compose(struct message *m)
{
	memset(m, 0, sizeof *m);
	m->part = (struct iovec){&m->byte, 1};
	m->head.msg_iov = &m->part;
	m->head.msg_iovlen = 1;
	m->head.msg_control = m->control.room;
	m->head.msg_controllen = sizeof m->control.room;
}

static int keep(const struct nvc_groups *groups, int fd)
{
	struct message m;

	compose(&m);
	m.control.head.cmsg_level = SOL_SOCKET;
	m.control.head.cmsg_type = SCM_RIGHTS;
	m.control.head.cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(&m.control.head), &fd, sizeof fd);
	return sendmsg(groups->keep_fds[1], &m.head, MSG_DONTWAIT) < 0 ? -1 : 0;
}

/* Receive a clone: it stays kept with MSG_PEEK. -1 if there is none. */
static int receive(const struct nvc_groups *groups, int flags)
{
	struct message m;
	int fd;

	compose(&m);
	if (recvmsg(groups->keep_fds[0], &m.head, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0 ||
	    m.head.msg_controllen < CMSG_LEN(sizeof fd))
		return -1;
	memcpy(&fd, CMSG_DATA(&m.control.head), sizeof fd);
	return fd;
}

/* Back in its group, the mount needs no clone any more. */
static void drop_kept(const struct nvc_groups *groups)
{
	int fd;

	while ((fd = receive(groups, 0)) >= 0)
		nvc_close_fd(&fd);
}

int nvc_groups_leave(const struct nvc_groups *groups, int root_fd)
{
	nvc_autofd int clone_fd =
	    nvc_open_tree(root_fd, "", NVC_OPEN_TREE_CLONE | NVC_OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);

	if (clone_fd < 0 || keep(groups, clone_fd) < 0)
		return -1;
	return set_propagation(root_fd, MS_PRIVATE);
}

int nvc_groups_return(const struct nvc_groups *groups, int root_fd, uint64_t mnt_id)
{
	struct scan scan = {.wanted = mnt_id};
	/* Whoever fails or dies here leaves it for the next try. */
	nvc_autofd int clone_fd = receive(groups, MSG_PEEK);

	if (scan_table(groups->table_fd, &scan) < 0)
		return -1;
	if (!scan.shared && (clone_fd >= 0 ? nvc_share_group(clone_fd, root_fd)
	                                   : set_propagation(root_fd, MS_SHARED)) < 0)
		return -1;
	drop_kept(groups);
	return 0;
}
