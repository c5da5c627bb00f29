/* SPDX-License-Identifier: Apache-2.0 */
/* swapper NAMESPACE ROOT: what somebody hostile inside a container does with its own tree.
 *
 * Enters the mount namespace, changes its root to ROOT, and obeys packets on standard input, a
 * SOCK_SEQPACKET socket. A packet is words that end with NUL; each but "swap" is answered by an
 * errno, 0 for success:
 *
 *   tmpfs|ro|noexec|shared PATH   mount a tmpfs, read-only, noexec or with shared propagation
 *   bind FROM TO                  bind a file or directory of the root
 *   proc PATH                     mount the procfs that shows the processes of the whole machine
 *   umount PATH
 *   swap A B [A B]...             exchanges A and B, or moves the one that is there to the other's
 *                                 name; answered by 0 once each pair had its turn; goes on until
 *                                 the next packet, which only ends it and is answered by the count
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#define WORDS_MAX  8
#define PACKET_MAX (WORDS_MAX * 4200)

static char packet[PACKET_MAX + 1];
static const char *words[WORDS_MAX];

/* The number of words; 0 at the end. */
static int receive(void)
{
	ssize_t len = recv(STDIN_FILENO, packet, PACKET_MAX, 0);
	int count = 0;

	if (len <= 0)
		return 0;
	packet[len] = '\0';
	for (const char *at = packet; at < packet + len && count < WORDS_MAX; at += strlen(at) + 1)
		words[count++] = at;
	return count;
}

static void answer(long number)
{
	char text[32];
	int len = snprintf(text, sizeof text, "%ld", number);

	if (send(STDIN_FILENO, text, (size_t)len, MSG_NOSIGNAL) < 0)
		exit(1);
}

static bool is_asked(void)
{
	struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};

	return poll(&fd, 1, 0) > 0;
}

static bool move(const char *from, const char *to, unsigned flags)
{
	return renameat2(AT_FDCWD, from, AT_FDCWD, to, flags) == 0;
}

/* Exchange two; where only one is there, it goes to the other's name. */
static bool swap(const char *a, const char *b)
{
	return move(a, b, RENAME_EXCHANGE) || move(b, a, RENAME_NOREPLACE) ||
	       move(a, b, RENAME_NOREPLACE);
}

static void swap_all(int count)
{
	long done = 0;

	for (bool told = false; !told || !is_asked(); told = true) {
		for (int i = 1; i + 1 < count; i += 2)
			done += swap(words[i], words[i + 1]);
		if (!told)
			answer(0);
	}
	char end[8];
	(void)recv(STDIN_FILENO, end, sizeof end, 0);
	answer(done);
}

static int mount_it(const char *kind, const char *path)
{
	unsigned long flags = strcmp(kind, "noexec") == 0 ? MS_NOEXEC | MS_NOSUID : 0;

	if (strcmp(kind, "proc") == 0)
		return mount("proc", path, "proc", 0, NULL);
	if (mount("tmpfs", path, "tmpfs", flags, "size=64k") < 0)
		return -1;
	if (strcmp(kind, "ro") == 0)
		return mount(NULL, path, NULL, MS_REMOUNT | MS_RDONLY, NULL);
	return strcmp(kind, "shared") == 0 ? mount(NULL, path, NULL, MS_SHARED, NULL) : 0;
}

static int obey(int count)
{
	if (count == 3 && strcmp(words[0], "bind") == 0)
		return mount(words[1], words[2], NULL, MS_BIND, NULL);
	if (count == 2 && strcmp(words[0], "umount") == 0)
		return umount2(words[1], MNT_DETACH | UMOUNT_NOFOLLOW);
	if (count == 2)
		return mount_it(words[0], words[1]);
	errno = EINVAL;
	return -1;
}

int main(int argc, char **argv)
{
	int fd = argc == 3 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1, count;

	if (fd < 0 || setns(fd, CLONE_NEWNS) < 0 || chroot(argv[2]) < 0 || chdir("/") < 0) {
		perror("swapper");
		return 1;
	}
	(void)close(fd);
	while ((count = receive()) > 0) {
		if (strcmp(words[0], "swap") == 0)
			swap_all(count);
		else
			answer(obey(count) < 0 ? errno : 0);
	}
	return 0;
}
