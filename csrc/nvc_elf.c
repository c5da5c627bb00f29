/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_elf.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nvc_cleanup.h"

#define WINDOW_SIZE  4096u
#define WINDOW_ALIGN 1024u
#define NOT_ELF      "elf file read error"
#define BAD_DATA     "elf data read error"

/* Where the bytes come from: all in memory (fd -1), or a window of a file. */
struct source {
	int fd;
	bool swap;           /* the file's byte order is not ours */
	bool wide;           /* ELFCLASS64 */
	const char *path;    /* for messages, or NULL */
	uint64_t size;       /* of the whole file */
	const uint8_t *data; /* bytes [start, start + len) of it */
	uint64_t start;
	size_t len;
	uint8_t window[WINDOW_SIZE];
};

struct segment {
	uint32_t type;
	uint64_t offset, vaddr, size, align; /* size: in the file */
};

struct segments {
	uint32_t count;
	struct segment at[NVC_ELF_SEGMENTS_MAX];
};

/* The dynamic section, before names are looked up: offsets in the string table. */
struct dynamic {
	uint64_t strtab; /* address */
	uint64_t strtab_size;
	uint64_t soname;
	bool has_soname;
	uint32_t needed_count;
	uint64_t needed[NVC_ELF_NEEDED_MAX];
};

static int malformed(const struct source *src, const char *step, struct nvc_error *err)
{
	return nvc_fail(err, NVC_EMALFORMED, step, src->path, BAD_DATA);
}

static int load_window(struct source *src, uint64_t offset, struct nvc_error *err)
{
	src->start = offset - offset % WINDOW_ALIGN; /* neighbours are often asked for next */
	src->len = 0;
	while (src->len < WINDOW_SIZE && src->start + src->len < src->size) {
		ssize_t n = pread(src->fd, src->window + src->len, WINDOW_SIZE - src->len,
		                  (off_t)(src->start + src->len));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return nvc_fail_errno(err, NVC_EPATH, "read", src->path);
		if (n == 0)
			break;
		src->len += (size_t)n;
	}
	return 0;
}

/* Point `*out` at `len` bytes of the file, valid until the next call. */
static int fetch(struct source *src, uint64_t offset, size_t len, const uint8_t **out,
                 struct nvc_error *err)
{
	uint64_t end;

	if (__builtin_add_overflow(offset, len, &end) || end > src->size)
		return malformed(src, "bounds", err);
	if (src->fd >= 0 && (offset < src->start || end > src->start + src->len) &&
	    load_window(src, offset, err) < 0)
		return -1;
	if (end > src->start + src->len) /* the file has shrunk since its size was read */
		return malformed(src, "bounds", err);
	*out = src->data + (offset - src->start);
	return 0;
}

static uint16_t get_u16(const struct source *src, const uint8_t *p)
{
	uint16_t value;

	memcpy(&value, p, sizeof value);
	return src->swap ? __builtin_bswap16(value) : value;
}

static uint32_t get_u32(const struct source *src, const uint8_t *p)
{
	uint32_t value;

	memcpy(&value, p, sizeof value);
	return src->swap ? __builtin_bswap32(value) : value;
}

/* A number as wide as the class: 8 bytes or 4. */
static uint64_t get_word(const struct source *src, const uint8_t *p)
{
	uint64_t value;

	if (!src->wide)
		return get_u32(src, p);
	memcpy(&value, p, sizeof value);
	return src->swap ? __builtin_bswap64(value) : value;
}

/* A field at its offset in the struct of either class. */
#define FIELD(src, p, type, field)                                                                 \
	((p) + ((src)->wide ? offsetof(Elf64_##type, field) : offsetof(Elf32_##type, field)))
#define SIZE_OF(src, type) ((src)->wide ? sizeof(Elf64_##type) : sizeof(Elf32_##type))

static int read_ident(struct source *src, struct nvc_error *err)
{
	uint8_t native = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB;
	const uint8_t *ident;

	if (src->size < EI_NIDENT)
		return nvc_fail(err, NVC_EMALFORMED, "magic", src->path, NOT_ELF);
	if (fetch(src, 0, EI_NIDENT, &ident, err) < 0)
		return -1;
	if (memcmp(ident, ELFMAG, SELFMAG) != 0 || ident[EI_VERSION] != EV_CURRENT ||
	    (ident[EI_CLASS] != ELFCLASS32 && ident[EI_CLASS] != ELFCLASS64) ||
	    (ident[EI_DATA] != ELFDATA2LSB && ident[EI_DATA] != ELFDATA2MSB))
		return nvc_fail(err, NVC_EMALFORMED, "magic", src->path, NOT_ELF);
	src->wide = ident[EI_CLASS] == ELFCLASS64;
	src->swap = ident[EI_DATA] != native;
	return 0;
}

static int read_segment(struct source *src, uint64_t offset, struct segment *out,
                        struct nvc_error *err)
{
	const uint8_t *p;

	if (fetch(src, offset, SIZE_OF(src, Phdr), &p, err) < 0)
		return -1;
	out->type = get_u32(src, FIELD(src, p, Phdr, p_type));
	out->offset = get_word(src, FIELD(src, p, Phdr, p_offset));
	out->vaddr = get_word(src, FIELD(src, p, Phdr, p_vaddr));
	out->size = get_word(src, FIELD(src, p, Phdr, p_filesz));
	out->align = get_word(src, FIELD(src, p, Phdr, p_align));
	return 0;
}

static int read_headers(struct source *src, struct segments *out, struct nvc_elf_facts *facts,
                        struct nvc_error *err)
{
	size_t size = SIZE_OF(src, Phdr);
	const uint8_t *p;
	uint64_t offset;

	if (fetch(src, 0, SIZE_OF(src, Ehdr), &p, err) < 0)
		return -1;
	facts->machine = get_u16(src, FIELD(src, p, Ehdr, e_machine));
	facts->type = get_u16(src, FIELD(src, p, Ehdr, e_type));
	offset = get_word(src, FIELD(src, p, Ehdr, e_phoff));
	out->count = get_u16(src, FIELD(src, p, Ehdr, e_phnum));
	if (out->count == 0)
		return 0;
	if (out->count > NVC_ELF_SEGMENTS_MAX ||
	    get_u16(src, FIELD(src, p, Ehdr, e_phentsize)) != size)
		return malformed(src, "header", err);
	for (uint32_t i = 0; i < out->count; i++) {
		uint64_t at;

		if (__builtin_add_overflow(offset, i * size, &at))
			return malformed(src, "header", err);
		if (read_segment(src, at, &out->at[i], err) < 0)
			return -1;
	}
	return 0;
}

/* Take one entry of the dynamic section; unknown ones do not matter. */
static int take_entry(const struct source *src, uint64_t tag, uint64_t value, struct dynamic *out,
                      struct nvc_error *err)
{
	switch (tag) {
	case DT_STRTAB:
		out->strtab = value;
		break;
	case DT_STRSZ:
		out->strtab_size = value;
		break;
	case DT_SONAME:
		out->soname = value;
		out->has_soname = true;
		break;
	case DT_NEEDED:
		if (out->needed_count == NVC_ELF_NEEDED_MAX)
			return malformed(src, "dynamic", err);
		out->needed[out->needed_count++] = value;
		break;
	default:
		break;
	}
	return 0;
}

static int read_dynamic(struct source *src, const struct segment *segment, struct dynamic *out,
                        struct nvc_error *err)
{
	size_t size = SIZE_OF(src, Dyn);
	uint64_t count = segment->size / size;
	uint64_t offset = segment->offset;
	const uint8_t *p;

	if (count > NVC_ELF_DYNAMIC_MAX)
		return malformed(src, "dynamic", err);
	for (uint64_t i = 0; i < count; i++, offset += size) {
		if (fetch(src, offset, size, &p, err) < 0)
			return -1;
		uint64_t tag = get_word(src, p);
		if (tag == DT_NULL)
			break;
		if (take_entry(src, tag, get_word(src, p + size / 2), out, err) < 0)
			return -1;
	}
	return 0;
}

/* Where the string table lies in the file; its size is cut to what its segment holds. */
static int find_strtab(const struct source *src, const struct segments *segs, struct dynamic *dyn,
                       uint64_t *offset, struct nvc_error *err)
{
	for (uint32_t i = 0; i < segs->count; i++) {
		const struct segment *seg = &segs->at[i];
		uint64_t skip = dyn->strtab - seg->vaddr;

		if (seg->type != PT_LOAD || dyn->strtab < seg->vaddr || skip >= seg->size)
			continue;
		if (__builtin_add_overflow(seg->offset, skip, offset))
			break;
		if (dyn->strtab_size > seg->size - skip)
			dyn->strtab_size = seg->size - skip;
		return 0;
	}
	return malformed(src, "string table", err);
}

/* Copy the name at `name` of the string table to `dst`, which has room for `room` bytes. Returns
 * its length with the NUL. */
static int copy_name(struct source *src, uint64_t strtab, const struct dynamic *dyn, uint64_t name,
                     char *dst, size_t room, struct nvc_error *err)
{
	const uint8_t *p, *nul;
	uint64_t offset;
	size_t len = room < NVC_ELF_NAME_SIZE ? room : NVC_ELF_NAME_SIZE;

	if (name >= dyn->strtab_size || __builtin_add_overflow(strtab, name, &offset) ||
	    offset >= src->size)
		return malformed(src, "name", err);
	if (len > dyn->strtab_size - name)
		len = (size_t)(dyn->strtab_size - name);
	if (len > src->size - offset)
		len = (size_t)(src->size - offset);
	if (fetch(src, offset, len, &p, err) < 0)
		return -1;
	nul = memchr(p, '\0', len);
	if (nul == NULL)
		return malformed(src, "name", err);
	len = (size_t)(nul - p) + 1;
	memcpy(dst, p, len);
	return (int)len;
}

static int read_names(struct source *src, const struct segments *segs, struct dynamic *dyn,
                      struct nvc_elf_facts *out, struct nvc_error *err)
{
	uint64_t strtab = 0;

	if (!dyn->has_soname && dyn->needed_count == 0)
		return 0;
	if (find_strtab(src, segs, dyn, &strtab, err) < 0)
		return -1;
	if (dyn->has_soname &&
	    copy_name(src, strtab, dyn, dyn->soname, out->soname, sizeof out->soname, err) < 0)
		return -1;
	for (uint32_t i = 0; i < dyn->needed_count; i++) {
		int len = copy_name(src, strtab, dyn, dyn->needed[i], out->needed + out->needed_len,
		                    sizeof out->needed - out->needed_len, err);
		if (len < 0)
			return -1;
		out->needed_len += (uint32_t)len;
		out->needed_count++;
	}
	return 0;
}

/* Read the ABI note at `offset`, known to be one by owner and type. */
static int read_abi(struct source *src, uint64_t offset, struct nvc_elf_facts *out,
                    struct nvc_error *err)
{
	const uint8_t *p;

	if (fetch(src, offset, 16, &p, err) < 0)
		return -1;
	if (get_u32(src, p) != ELF_NOTE_OS_LINUX)
		return 0;
	out->has_abi = 1;
	for (size_t i = 0; i < 3; i++)
		out->abi[i] = get_u32(src, p + 4 + 4 * i);
	return 0;
}

/* Look for the ABI note in a segment of notes: each has sizes of name and description, a type,
 * then both, padded. */
static int read_notes(struct source *src, const struct segment *seg, struct nvc_elf_facts *out,
                      struct nvc_error *err)
{
	uint64_t pad = seg->align == 8 ? 7 : 3;
	uint64_t end = seg->size < NVC_ELF_NOTES_MAX ? seg->size : NVC_ELF_NOTES_MAX;
	uint64_t pos = 0;
	const uint8_t *p;

	while (end - pos >= sizeof(Elf32_Nhdr) + 4) {
		uint64_t at, name_len, desc_len, desc;

		if (__builtin_add_overflow(seg->offset, pos, &at))
			return malformed(src, "note", err);
		if (fetch(src, at, sizeof(Elf32_Nhdr) + 4, &p, err) < 0)
			return -1;
		name_len = get_u32(src, p);
		desc_len = get_u32(src, p + 4);
		desc = (sizeof(Elf32_Nhdr) + name_len + pad) & ~pad;
		if (name_len == 4 && memcmp(p + 12, "GNU", 4) == 0 &&
		    get_u32(src, p + 8) == NT_GNU_ABI_TAG && desc_len >= 16)
			return read_abi(src, at + desc, out, err);
		desc = (desc + desc_len + pad) & ~pad;
		if (desc > end - pos)
			break;
		pos += desc;
	}
	return 0;
}

static int read_facts(struct source *src, struct nvc_elf_facts *out, struct nvc_error *err)
{
	struct segments segs;
	struct dynamic dyn = {0};

	memset(out, 0, sizeof *out);
	if (read_ident(src, err) < 0)
		return -1;
	out->bits = src->wide ? 64 : 32;
	if (read_headers(src, &segs, out, err) < 0)
		return -1;
	/* Notes first: they stand in the same window as the headers. */
	for (uint32_t i = 0; i < segs.count && !out->has_abi; i++) {
		if (segs.at[i].type == PT_NOTE && read_notes(src, &segs.at[i], out, err) < 0)
			return -1;
	}
	for (uint32_t i = 0; i < segs.count; i++) {
		if (segs.at[i].type != PT_DYNAMIC)
			continue;
		out->dynamic++;
		if (read_dynamic(src, &segs.at[i], &dyn, err) < 0)
			return -1;
	}
	return read_names(src, &segs, &dyn, out, err);
}

int nvc_elf_parse(const uint8_t *buf, size_t len, struct nvc_elf_facts *out, struct nvc_error *err)
{
	struct source src = {.fd = -1, .size = len, .data = buf, .len = len};

	return read_facts(&src, out, err);
}

int nvc_elf_read_fd(int fd, const char *path, uint64_t size, struct nvc_elf_facts *out,
                    struct nvc_error *err)
{
	struct source src = {.fd = fd, .path = path, .size = size};

	src.data = src.window;
	return read_facts(&src, out, err);
}

int nvc_elf_read(const char *path, struct nvc_elf_facts *out, struct nvc_error *err)
{
	/* A regular file does not mind O_NONBLOCK; a FIFO would wait for a writer without. */
	nvc_autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return nvc_fail_errno(err, NVC_EPATH, "open", path);
	if (fstat(fd, &st) < 0)
		return nvc_fail_errno(err, NVC_EPATH, "stat", path);
	if (!S_ISREG(st.st_mode))
		return nvc_fail(err, NVC_EMALFORMED, "magic", path, NOT_ELF);
	return nvc_elf_read_fd(fd, path, (uint64_t)st.st_size, out, err);
}
