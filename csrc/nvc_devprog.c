/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_devprog.h"

#include <errno.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "nvc_cleanup.h"
#include "nvc_plan.h"
#include "nvc_syscalls.h"

#define PROGRAMS_MAX 64           /* the kernel's own limit for one cgroup */
#define OWN_NAME     "libnvc"     /* of a program that is all ours */
#define LICENSE      "Apache-2.0" /* no helper that asks for another one is called */
#define CODE_MAX     BPF_MAXINSNS
#define TRIES_MAX    16 /* against others who change the same cgroup */

#define BLOCK_LEN 15
#define TAIL_LEN  8

/* Instructions, in the words of the kernel's bpf/insn macros. */
#define INSN(op, dst, src, jump, value)                                                            \
	((struct bpf_insn){.code = (uint8_t)(op),                                                  \
	                   .dst_reg = (dst),                                                       \
	                   .src_reg = (src),                                                       \
	                   .off = (jump),                                                          \
	                   .imm = (int32_t)(value)})
#define LOAD(dst, at)            INSN(BPF_LDX | BPF_MEM | BPF_W, dst, BPF_REG_1, at, 0)
#define SET(dst, value)          INSN(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, value)
#define COPY(dst, src)           INSN(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0)
#define AND(dst, value)          INSN(BPF_ALU64 | BPF_AND | BPF_K, dst, 0, 0, value)
#define SHIFT(dst, value)        INSN(BPF_ALU64 | BPF_RSH | BPF_K, dst, 0, 0, value)
#define UNLESS(dst, value, to)   INSN(BPF_JMP | BPF_JNE | BPF_K, dst, 0, to, value)
#define IF_BELOW(dst, value, to) INSN(BPF_JMP | BPF_JLT | BPF_K, dst, 0, to, value)
#define IF_ABOVE(dst, value, to) INSN(BPF_JMP | BPF_JGT | BPF_K, dst, 0, to, value)
#define EXIT                     INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

/* The programs of a cgroup. */
struct attached {
	uint32_t count, flags;
	uint32_t ids[PROGRAMS_MAX];
};

/* A program's code, in memory of its own: too much for a stack. */
struct code {
	char name[BPF_OBJ_NAME_LEN];
	uint32_t count;
	struct bpf_insn insns[CODE_MAX];
};

static int fail(const struct nvc_cgroup *cgroup, const char *step, struct nvc_error *err)
{
	(void)nvc_fail_errno(err, NVC_ECGROUP, step, cgroup->v2_path);
	if (err->sys_errno == EPERM || err->sys_errno == EACCES || err->sys_errno == ENOSYS)
		nvc_copy(err->msg, sizeof err->msg,
		         "the device program of a cgroup cannot be changed here (let the engine "
		         "list the devices, and use --no-cgroups)");
	return -1;
}

static int query(const struct nvc_cgroup *cgroup, uint32_t flags, struct attached *out,
                 struct nvc_error *err)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof attr);
	attr.query.target_fd = (uint32_t)cgroup->v2_fd;
	attr.query.attach_type = BPF_CGROUP_DEVICE;
	attr.query.query_flags = flags;
	attr.query.prog_ids = (uintptr_t)out->ids;
	attr.query.prog_cnt = PROGRAMS_MAX;
	if (nvc_bpf(BPF_PROG_QUERY, &attr) < 0)
		return fail(cgroup, "device program query", err);
	out->count = attr.query.prog_cnt;
	out->flags = attr.query.attach_flags;
	return 0;
}

static int open_program(uint32_t id)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof attr);
	attr.prog_id = id;
	return nvc_bpf(BPF_PROG_GET_FD_BY_ID, &attr);
}

/* Read a program's code as the kernel kept it. */
static int read_code(const struct nvc_cgroup *cgroup, int program_fd, struct code *out,
                     struct nvc_error *err)
{
	struct bpf_prog_info info;
	union bpf_attr attr;

	memset(&info, 0, sizeof info);
	memset(&attr, 0, sizeof attr);
	info.xlated_prog_insns = (uintptr_t)out->insns;
	info.xlated_prog_len = sizeof out->insns;
	attr.info.bpf_fd = (uint32_t)program_fd;
	attr.info.info_len = sizeof info;
	attr.info.info = (uintptr_t)&info;
	if (nvc_bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) < 0)
		return fail(cgroup, "device program read", err);
	if (info.xlated_prog_insns == 0 || info.xlated_prog_len == 0 ||
	    info.xlated_prog_len > sizeof out->insns)
		return nvc_fail(err, NVC_ECGROUP, "device program read", cgroup->v2_path,
		                "the kernel does not show the cgroup's device program: let the "
		                "engine list the devices, and use --no-cgroups");
	out->count = info.xlated_prog_len / (uint32_t)sizeof out->insns[0];
	memcpy(out->name, info.name, sizeof out->name);
	return 0;
}

/* For device programs what the kernel kept is what was loaded, except for maps and helpers, which
 * could not be loaded again. */
static int check_code(const struct nvc_cgroup *cgroup, const struct code *code,
                      struct nvc_error *err)
{
	for (uint32_t i = 0; i < code->count; i++) {
		uint8_t op = code->insns[i].code;
		if (op == (BPF_JMP | BPF_CALL) || op == (BPF_LD | BPF_DW | BPF_IMM))
			return nvc_fail(err, NVC_ECGROUP, "device program read", cgroup->v2_path,
			                "the cgroup's device program uses maps or helpers and "
			                "cannot be extended: let the engine list the devices, and "
			                "use --no-cgroups");
	}
	return 0;
}

static int load(const struct nvc_cgroup *cgroup, const struct code *code, struct nvc_error *err)
{
	union bpf_attr attr;
	int fd;

	memset(&attr, 0, sizeof attr);
	attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	attr.expected_attach_type = BPF_CGROUP_DEVICE;
	attr.insns = (uintptr_t)code->insns;
	attr.insn_cnt = code->count;
	attr.license = (uintptr_t)LICENSE;
	memcpy(attr.prog_name, code->name, sizeof code->name);
	fd = nvc_bpf(BPF_PROG_LOAD, &attr);
	return fd < 0 ? fail(cgroup, "device program load", err) : fd;
}

static int attach(const struct nvc_cgroup *cgroup, int program_fd, uint32_t flags, int replaced_fd)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof attr);
	attr.target_fd = (uint32_t)cgroup->v2_fd;
	attr.attach_bpf_fd = (uint32_t)program_fd;
	attr.attach_type = BPF_CGROUP_DEVICE;
	attr.attach_flags = flags;
	if (replaced_fd >= 0) {
		attr.attach_flags |= BPF_F_REPLACE;
		attr.replace_bpf_fd = (uint32_t)replaced_fd;
	}
	return nvc_bpf(BPF_PROG_ATTACH, &attr);
}

static int detach(const struct nvc_cgroup *cgroup, int program_fd)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof attr);
	attr.target_fd = (uint32_t)cgroup->v2_fd;
	attr.attach_bpf_fd = (uint32_t)program_fd;
	attr.attach_type = BPF_CGROUP_DEVICE;
	return nvc_bpf(BPF_PROG_DETACH, &attr);
}

/* Put a new program in the place of an old one. */
static int replace(const struct nvc_cgroup *cgroup, uint32_t flags, int old_fd, int new_fd,
                   struct nvc_error *err)
{
	int result;

	if ((flags & BPF_F_ALLOW_MULTI) == 0) /* there is only one: attaching replaces it */
		result = attach(cgroup, new_fd, flags, -1);
	else
		result = attach(cgroup, new_fd, BPF_F_ALLOW_MULTI, old_fd);
	if (result < 0 && errno == EINVAL && (flags & BPF_F_ALLOW_MULTI) != 0) {
		/* Before kernel 5.6. All programs must allow, so while both are there, the old
		 * one's word counts. */
		result = attach(cgroup, new_fd, BPF_F_ALLOW_MULTI, -1);
		if (result == 0)
			result = detach(cgroup, old_fd);
	}
	return result < 0 ? fail(cgroup, "device program replacement", err) : 0;
}

/* --- blocks ------------------------------------------------------------------------------------
 */

/* Allow what the rule says; else fall through, register 1 untouched. The kernel hands over
 * type | access << 16, major, minor. */
static void write_block(struct bpf_insn *out, const struct nvc_device_rule *rule, uint32_t tag)
{
	uint32_t access = ((rule->access & NVC_OP_READ) != 0 ? BPF_DEVCG_ACC_READ : 0u) |
	                  ((rule->access & NVC_OP_WRITE) != 0 ? BPF_DEVCG_ACC_WRITE : 0u) |
	                  ((rule->access & NVC_OP_MKNOD) != 0 ? BPF_DEVCG_ACC_MKNOD : 0u);
	const struct bpf_insn block[BLOCK_LEN] = {
	    SET(BPF_REG_5, tag),
	    LOAD(BPF_REG_2, offsetof(struct bpf_cgroup_dev_ctx, access_type)),
	    COPY(BPF_REG_3, BPF_REG_2),
	    AND(BPF_REG_3, 0xffff),
	    UNLESS(BPF_REG_3, BPF_DEVCG_DEV_CHAR, 10),
	    SHIFT(BPF_REG_2, 16),
	    AND(BPF_REG_2, ~access),
	    UNLESS(BPF_REG_2, 0, 7),
	    LOAD(BPF_REG_2, offsetof(struct bpf_cgroup_dev_ctx, major)),
	    UNLESS(BPF_REG_2, rule->major, 5),
	    LOAD(BPF_REG_2, offsetof(struct bpf_cgroup_dev_ctx, minor)),
	    IF_BELOW(BPF_REG_2, rule->minor, 3),
	    IF_ABOVE(BPF_REG_2, rule->minor + rule->count - 1, 2),
	    SET(BPF_REG_0, 1),
	    EXIT,
	};

	memcpy(out, block, sizeof block);
}

/* The end of a program that is all ours. */
static void write_tail(struct bpf_insn *out, uint32_t major)
{
	const struct bpf_insn tail[TAIL_LEN] = {
	    SET(BPF_REG_0, 1),
	    LOAD(BPF_REG_2, offsetof(struct bpf_cgroup_dev_ctx, access_type)),
	    AND(BPF_REG_2, 0xffff),
	    UNLESS(BPF_REG_2, BPF_DEVCG_DEV_CHAR, 3),
	    LOAD(BPF_REG_2, offsetof(struct bpf_cgroup_dev_ctx, major)),
	    UNLESS(BPF_REG_2, major, 1),
	    SET(BPF_REG_0, 0),
	    EXIT,
	};

	memcpy(out, tail, sizeof tail);
}

static bool is_block(const struct bpf_insn *at)
{
	struct bpf_insn block[BLOCK_LEN];
	uint32_t first = (uint32_t)at[11].imm, last = (uint32_t)at[12].imm;
	struct nvc_device_rule rule = {(uint32_t)at[9].imm, first, last - first + 1, 0};

	write_block(block, &rule, (uint32_t)at[0].imm);
	block[6].imm = at[6].imm; /* any access */
	return memcmp(block, at, sizeof block) == 0;
}

/* Find the block with a tag among those at the front. */
static struct bpf_insn *find_block(struct code *code, uint32_t tag)
{
	for (uint32_t at = 0; at + BLOCK_LEN <= code->count && is_block(&code->insns[at]);
	     at += BLOCK_LEN) {
		if ((uint32_t)code->insns[at].imm == tag)
			return &code->insns[at];
	}
	return NULL;
}

static void cut_block(struct code *code, struct bpf_insn *block)
{
	code->count -= BLOCK_LEN;
	memmove(block, block + BLOCK_LEN,
	        (size_t)(code->insns + code->count - block) * sizeof *block);
}

static int add_block(const struct nvc_cgroup *cgroup, struct code *code,
                     const struct nvc_device_rule *rule, uint32_t tag, struct nvc_error *err)
{
	if (code->count + BLOCK_LEN > CODE_MAX)
		return nvc_fail(err, NVC_ECGROUP, "device program extension", cgroup->v2_path,
		                "the cgroup's device program has no room for another rule");
	memmove(code->insns + BLOCK_LEN, code->insns, code->count * sizeof code->insns[0]);
	write_block(code->insns, rule, tag);
	code->count += BLOCK_LEN;
	return 0;
}

static bool is_all_ours(const struct code *code)
{
	struct bpf_insn tail[TAIL_LEN];

	if (strncmp(code->name, OWN_NAME, sizeof code->name) != 0 || code->count != TAIL_LEN)
		return false;
	write_tail(tail, (uint32_t)code->insns[5].imm);
	return memcmp(tail, code->insns, sizeof tail) == 0;
}

/* --- rules -------------------------------------------------------------------------------------
 */

static struct code *map_code(struct nvc_error *err)
{
	void *memory = mmap(NULL, sizeof(struct code), PROT_READ | PROT_WRITE,
	                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory != MAP_FAILED)
		return memory;
	(void)nvc_fail_errno(err, NVC_EINTERNAL, "map", "device program");
	return NULL;
}

static void unmap_code(struct code **code)
{
	if (*code != NULL)
		(void)munmap(*code, sizeof **code);
}

#define autocode __attribute__((cleanup(unmap_code))) struct code

int nvc_devprog_count(const struct nvc_cgroup *cgroup, uint32_t *own, uint32_t *all,
                      struct nvc_error *err)
{
	struct attached here, effective;

	if (query(cgroup, 0, &here, err) < 0 ||
	    query(cgroup, BPF_F_QUERY_EFFECTIVE, &effective, err) < 0)
		return -1;
	*own = here.count;
	*all = effective.count;
	return 0;
}

int nvc_devprog_new_tag(uint32_t *out, struct nvc_error *err)
{
	if (getrandom(out, sizeof *out, 0) == (ssize_t)sizeof *out)
		return 0;
	return nvc_fail_errno(err, NVC_EINTERNAL, "read", "random number");
}

static int attach_first(const struct nvc_cgroup *cgroup, const struct nvc_device_rule *rule,
                        uint32_t tag, bool *tried, struct nvc_error *err)
{
	autocode *code = map_code(err);

	if (code == NULL)
		return -1;
	nvc_copy(code->name, sizeof code->name, OWN_NAME);
	write_block(code->insns, rule, tag);
	write_tail(code->insns + BLOCK_LEN, rule->major);
	code->count = BLOCK_LEN + TAIL_LEN;
	nvc_autofd int fd = load(cgroup, code, err);
	if (fd < 0)
		return -1;
	*tried = true;
	if (attach(cgroup, fd, BPF_F_ALLOW_MULTI, -1) < 0)
		return fail(cgroup, "device program attachment", err);
	return 0;
}

static int extend(const struct nvc_cgroup *cgroup, uint32_t flags, int old_fd,
                  const struct nvc_device_rule *rule, uint32_t tag, bool *tried,
                  struct nvc_error *err)
{
	autocode *code = map_code(err);

	if (code == NULL || read_code(cgroup, old_fd, code, err) < 0)
		return -1;
	if (find_block(code, tag) != NULL)
		return 0; /* done before somebody made us start again */
	if (check_code(cgroup, code, err) < 0 || add_block(cgroup, code, rule, tag, err) < 0)
		return -1;
	nvc_autofd int new_fd = load(cgroup, code, err);
	if (new_fd < 0)
		return -1;
	*tried = true;
	return replace(cgroup, flags, old_fd, new_fd, err);
}

static int cut(const struct nvc_cgroup *cgroup, uint32_t flags, int old_fd, uint32_t tag,
               struct nvc_error *err)
{
	autocode *code = map_code(err);

	if (code == NULL || read_code(cgroup, old_fd, code, err) < 0)
		return -1;
	struct bpf_insn *block = find_block(code, tag);
	if (block == NULL)
		return 0;
	if (check_code(cgroup, code, err) < 0)
		return -1;
	cut_block(code, block);
	if (is_all_ours(code))
		return detach(cgroup, old_fd) < 0 ? fail(cgroup, "device program removal", err) : 0;
	nvc_autofd int new_fd = load(cgroup, code, err);
	return new_fd < 0 ? -1 : replace(cgroup, flags, old_fd, new_fd, err);
}

/* Put a rule into all programs (`rule` not NULL), or take it out of them. */
static int change_all(const struct nvc_cgroup *cgroup, const struct nvc_device_rule *rule,
                      uint32_t tag, bool *tried, struct nvc_error *err)
{
	struct attached attached;

	if (query(cgroup, 0, &attached, err) < 0)
		return -1;
	if (attached.count == 0 && rule != NULL)
		return attach_first(cgroup, rule, tag, tried, err);
	for (uint32_t i = 0; i < attached.count; i++) {
		nvc_autofd int old_fd = open_program(attached.ids[i]);
		if (old_fd < 0)
			return fail(cgroup, "device program access", err);
		int result = rule != NULL
		                 ? extend(cgroup, attached.flags, old_fd, rule, tag, tried, err)
		                 : cut(cgroup, attached.flags, old_fd, tag, err);
		if (result < 0)
			return -1;
	}
	return 0;
}

/* A program that is gone was replaced by somebody else just now: look again. */
static int change(const struct nvc_cgroup *cgroup, const struct nvc_device_rule *rule, uint32_t tag,
                  bool *tried, struct nvc_error *err)
{
	int result;

	for (int tries = 0; tries < TRIES_MAX; tries++) {
		result = change_all(cgroup, rule, tag, tried, err);
		if (result == 0 || err->sys_errno != ENOENT)
			break;
	}
	return result;
}

int nvc_devprog_allow(const struct nvc_cgroup *cgroup, const struct nvc_device_rule *rule,
                      uint32_t tag, bool *tried, struct nvc_error *err)
{
	*tried = false;
	return change(cgroup, rule, tag, tried, err);
}

int nvc_devprog_deny(const struct nvc_cgroup *cgroup, uint32_t tag, struct nvc_error *err)
{
	bool tried;

	return change(cgroup, NULL, tag, &tried, err);
}
