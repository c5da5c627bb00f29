/* SPDX-License-Identifier: Apache-2.0 */
/* devprog list CGROUP: print the device programs of a version 2 cgroup: name and instructions.
 * devprog attach CGROUP NAME: attach one that allows everything, beside those that are there.
 * devprog call CGROUP NAME: the same, with one that calls a helper of the kernel. */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PROGRAMS_MAX 64

static _Noreturn void die(const char *what)
{
	(void)fprintf(stderr, "devprog: %s: %m\n", what);
	exit(1);
}

static int bpf(int command, union bpf_attr *attr, const char *what)
{
	int result = (int)syscall(SYS_bpf, command, attr, sizeof *attr);

	if (result < 0)
		die(what);
	return result;
}

static void print_program(uint32_t id)
{
	static struct bpf_insn insns[BPF_MAXINSNS];
	struct bpf_prog_info info;
	union bpf_attr attr;
	int fd;

	memset(&attr, 0, sizeof attr);
	attr.prog_id = id;
	fd = bpf(BPF_PROG_GET_FD_BY_ID, &attr, "open");
	memset(&info, 0, sizeof info);
	info.xlated_prog_insns = (uintptr_t)insns;
	info.xlated_prog_len = sizeof insns;
	memset(&attr, 0, sizeof attr);
	attr.info.bpf_fd = (uint32_t)fd;
	attr.info.info_len = sizeof info;
	attr.info.info = (uintptr_t)&info;
	(void)bpf(BPF_OBJ_GET_INFO_BY_FD, &attr, "read");
	(void)close(fd);
	(void)printf("%.*s", (int)sizeof info.name, info.name);
	for (uint32_t i = 0; i < info.xlated_prog_len; i++)
		(void)printf("%s%02x", i % sizeof insns[0] == 0 ? " " : "",
		             ((const unsigned char *)insns)[i]);
	(void)putchar('\n');
}

static void list(int cgroup_fd)
{
	uint32_t ids[PROGRAMS_MAX];
	union bpf_attr attr;

	memset(&attr, 0, sizeof attr);
	attr.query.target_fd = (uint32_t)cgroup_fd;
	attr.query.attach_type = BPF_CGROUP_DEVICE;
	attr.query.prog_ids = (uintptr_t)ids;
	attr.query.prog_cnt = PROGRAMS_MAX;
	(void)bpf(BPF_PROG_QUERY, &attr, "query");
	for (uint32_t i = 0; i < attr.query.prog_cnt; i++)
		print_program(ids[i]);
}

static void attach(int cgroup_fd, const char *name, bool calls)
{
	const struct bpf_insn insns[] = {
	    {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_get_prandom_u32},
	    {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1},
	    {.code = BPF_JMP | BPF_EXIT},
	};
	union bpf_attr attr;
	int fd;

	memset(&attr, 0, sizeof attr);
	attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	attr.insns = (uintptr_t)(calls ? insns : insns + 1);
	attr.insn_cnt = sizeof insns / sizeof insns[0] - (calls ? 0 : 1);
	attr.license = (uintptr_t)"Apache-2.0";
	(void)snprintf(attr.prog_name, sizeof attr.prog_name, "%s", name);
	fd = bpf(BPF_PROG_LOAD, &attr, "load");
	memset(&attr, 0, sizeof attr);
	attr.target_fd = (uint32_t)cgroup_fd;
	attr.attach_bpf_fd = (uint32_t)fd;
	attr.attach_type = BPF_CGROUP_DEVICE;
	attr.attach_flags = BPF_F_ALLOW_MULTI;
	(void)bpf(BPF_PROG_ATTACH, &attr, "attach");
}

int main(int argc, char **argv)
{
	int fd = argc < 3 ? -1 : open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		die("cgroup");
	if (argc == 3 && strcmp(argv[1], "list") == 0)
		list(fd);
	else if (argc == 4 && strcmp(argv[1], "attach") == 0)
		attach(fd, argv[3], false);
	else if (argc == 4 && strcmp(argv[1], "call") == 0)
		attach(fd, argv[3], true);
	else
		return 2;
	return 0;
}
