/* SPDX-License-Identifier: Apache-2.0 */
/* needs: error elf */
#include "nvc_elf.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tap.h"

#define NOTES   0x200u
#define DYNAMIC 0x240u
#define STRINGS 0x300u
#define SIZE    0x340u
#define VADDR   0x10000u

/* A small library under construction, of either class and byte order. */
struct image {
	bool wide, swap;
	uint8_t data[SIZE];
};

static void put(struct image *img, size_t offset, uint64_t value, size_t width)
{
	bool big = (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__) != img->swap;

	for (size_t i = 0; i < width; i++) {
		size_t shift = 8 * (big ? width - 1 - i : i);
		img->data[offset + i] = (uint8_t)(value >> shift);
	}
}

#define WIDTH(img) ((img)->wide ? 8u : 4u)
#define PUT(img, base, type, field, value)                                                         \
	put((img),                                                                                 \
	    (base) +                                                                               \
	        ((img)->wide ? offsetof(Elf64_##type, field) : offsetof(Elf32_##type, field)),     \
	    (value),                                                                               \
	    (img)->wide ? sizeof(((Elf64_##type *)0)->field) : sizeof(((Elf32_##type *)0)->field))
#define EHDR_SIZE(img) ((img)->wide ? sizeof(Elf64_Ehdr) : sizeof(Elf32_Ehdr))
#define PHDR_SIZE(img) ((img)->wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr))

static void put_segment(struct image *img, unsigned index, uint32_t type, uint64_t offset,
                        uint64_t size)
{
	size_t base = EHDR_SIZE(img) + index * PHDR_SIZE(img);

	PUT(img, base, Phdr, p_type, type);
	PUT(img, base, Phdr, p_offset, offset);
	PUT(img, base, Phdr, p_vaddr, VADDR + offset);
	PUT(img, base, Phdr, p_filesz, size);
	PUT(img, base, Phdr, p_align, 4);
}

static void put_dynamic(struct image *img, unsigned index, uint64_t tag, uint64_t value)
{
	size_t base = DYNAMIC + index * 2u * WIDTH(img);

	put(img, base, tag, WIDTH(img));
	put(img, base + WIDTH(img), value, WIDTH(img));
}

static void put_notes(struct image *img)
{
	static const uint32_t words[] = {4, 3,  7, 0x00414141, 0x00636261, /* type 7 of "AAA" */
	                                 4, 16, 1, 0,          0,          2, 3, 99};

	for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
		put(img, NOTES + 4u * i, words[i], 4);
	memcpy(img->data + NOTES + 32, "GNU", 4);
}

static struct image make_image(bool wide, bool swap)
{
	struct image img = {.wide = wide, .swap = swap};
	bool big = (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__) != swap;

	memcpy(img.data, ELFMAG, SELFMAG);
	img.data[EI_CLASS] = wide ? ELFCLASS64 : ELFCLASS32;
	img.data[EI_DATA] = big ? ELFDATA2MSB : ELFDATA2LSB;
	img.data[EI_VERSION] = EV_CURRENT;
	PUT(&img, 0, Ehdr, e_type, ET_DYN);
	PUT(&img, 0, Ehdr, e_machine, EM_AARCH64);
	PUT(&img, 0, Ehdr, e_phoff, EHDR_SIZE(&img));
	PUT(&img, 0, Ehdr, e_phentsize, PHDR_SIZE(&img));
	PUT(&img, 0, Ehdr, e_phnum, 3);
	put_segment(&img, 0, PT_LOAD, 0, SIZE);
	put_segment(&img, 1, PT_DYNAMIC, DYNAMIC, STRINGS - DYNAMIC);
	put_segment(&img, 2, PT_NOTE, NOTES, 52);
	put_notes(&img);
	put_dynamic(&img, 0, DT_NEEDED, 1);
	put_dynamic(&img, 1, DT_SONAME, 8);
	put_dynamic(&img, 2, DT_NEEDED, 20);
	put_dynamic(&img, 3, DT_STRTAB, VADDR + STRINGS);
	put_dynamic(&img, 4, DT_STRSZ, SIZE - STRINGS);
	memcpy(img.data + STRINGS, "\0liba.1\0libcuda.so\0\0libb.2", 27);
	return img;
}

/* Parse memory of exactly `len` bytes. */
static int parse(const void *data, size_t len, struct nvc_elf_facts *facts, struct nvc_error *err)
{
	uint8_t *copy = tap_copy(data, len);
	int result = nvc_elf_parse(copy, len, facts, err);

	free(copy);
	return result;
}

static void check_facts(struct tap *tap, const struct nvc_elf_facts *facts, bool wide)
{
	CHECK(tap, facts->bits == (wide ? 64 : 32));
	CHECK(tap, facts->machine == EM_AARCH64);
	CHECK_STR(tap, facts->soname, "libcuda.so");
	CHECK(tap, facts->needed_count == 2);
	CHECK(tap, facts->needed_len == 14);
	CHECK(tap, memcmp(facts->needed, "liba.1\0libb.2", 14) == 0);
	CHECK(tap, facts->has_abi == 1);
	CHECK(tap, facts->abi[0] == 2 && facts->abi[1] == 3 && facts->abi[2] == 99);
}

static void test_classes_and_orders(struct tap *tap)
{
	for (int i = 0; i < 4; i++) {
		struct image img = make_image(i & 1, i & 2);
		struct nvc_elf_facts facts;
		struct nvc_error err;

		if (CHECK(tap, parse(img.data, SIZE, &facts, &err) == 0))
			check_facts(tap, &facts, img.wide);
	}
}

/* Cut short anywhere it is refused, never read beyond its end. */
static void test_truncated(struct tap *tap)
{
	for (int i = 0; i < 4; i++) {
		struct image img = make_image(i & 1, i & 2);
		struct nvc_elf_facts facts;
		struct nvc_error err = {0};
		size_t refused = 0;

		for (size_t len = 0; len < STRINGS + 27; len++)
			refused +=
			    parse(img.data, len, &facts, &err) == -1 && err.code == NVC_EMALFORMED;
		CHECK(tap, refused == STRINGS + 27);
	}
}

/* Every byte of headers, notes and dynamic section set to values that overflow sums. */
static void test_corrupted(struct tap *tap)
{
	static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
	size_t parsed = 0, refused = 0;

	for (int i = 0; i < 4; i++) {
		struct image img = make_image(i & 1, i & 2);

		for (size_t at = 0; at < STRINGS * sizeof values; at++) {
			struct image bad = img;
			struct nvc_elf_facts facts;
			struct nvc_error err = {0};

			bad.data[at / sizeof values] = values[at % sizeof values];
			if (parse(bad.data, SIZE, &facts, &err) == 0)
				parsed++;
			else
				refused += err.code == NVC_EMALFORMED;
		}
	}
	CHECK(tap, parsed + refused == 4 * STRINGS * sizeof values);
	CHECK(tap, parsed > 0 && refused > 0);
}

static void expect_refused(struct tap *tap, const struct image *img, const char *step)
{
	struct nvc_elf_facts facts;
	struct nvc_error err = {0};

	CHECK(tap, parse(img->data, SIZE, &facts, &err) == -1);
	CHECK(tap, err.code == NVC_EMALFORMED);
	CHECK_STR(tap, err.step, step);
}

static void test_contradictions(struct tap *tap)
{
	struct image img = make_image(true, false);
	size_t load = EHDR_SIZE(&img), dynamic = load + PHDR_SIZE(&img);

	memcpy(img.data, "\177ELV", 4);
	expect_refused(tap, &img, "magic");
	img = make_image(true, false);
	PUT(&img, 0, Ehdr, e_phentsize, 32);
	expect_refused(tap, &img, "header");
	img = make_image(true, false);
	PUT(&img, 0, Ehdr, e_phnum, 129);
	expect_refused(tap, &img, "header");
	img = make_image(true, false);
	PUT(&img, 0, Ehdr, e_phoff, UINT64_MAX - 8);
	expect_refused(tap, &img, "bounds");
	img = make_image(true, false);
	PUT(&img, dynamic, Phdr, p_filesz, UINT64_MAX);
	expect_refused(tap, &img, "dynamic");
	img = make_image(true, false);
	PUT(&img, load, Phdr, p_vaddr, VADDR + SIZE); /* the string table is in no segment */
	expect_refused(tap, &img, "string table");
	img = make_image(true, false);
	put_dynamic(&img, 1, DT_SONAME, UINT64_MAX);
	expect_refused(tap, &img, "name");
	img = make_image(true, false);
	put_dynamic(&img, 4, DT_STRSZ, 26); /* without the last NUL */
	expect_refused(tap, &img, "name");
}

static void test_no_dynamic_section(struct tap *tap)
{
	struct image img = make_image(false, false);
	struct nvc_elf_facts facts;
	struct nvc_error err;

	PUT(&img, 0, Ehdr, e_phnum, 1);
	CHECK(tap, parse(img.data, SIZE, &facts, &err) == 0);
	CHECK_STR(tap, facts.soname, "");
	CHECK(tap, facts.needed_count == 0 && facts.has_abi == 0);
}

static void test_too_many_names(struct tap *tap)
{
	struct image img = make_image(false, false);
	struct nvc_elf_facts facts;
	struct nvc_error err = {0};
	uint8_t *big = calloc(1, 0x10000);

	if (big == NULL)
		abort();
	memcpy(big, img.data, SIZE);
	for (uint32_t i = 0; i < 2000; i++) {
		uint32_t entry[2] = {DT_NEEDED, i % 10};
		memcpy(big + 0x1000 + i * sizeof entry, entry, sizeof entry);
	}
	put_segment(&img, 1, PT_DYNAMIC, 0x1000, 2000 * 8);
	memcpy(big, img.data, STRINGS);
	CHECK(tap, parse(big, 0x10000, &facts, &err) == -1);
	CHECK_STR(tap, err.step, "dynamic");
	free(big);
}

static void write_file(const char *path, const struct image *img)
{
	FILE *file = fopen(path, "we");

	if (file == NULL || fwrite(img->data, SIZE, 1, file) != 1 || fclose(file) != 0)
		abort();
}

/* The window over a file gives what the buffer gives. */
static void test_file(struct tap *tap, const char *directory)
{
	struct image img = make_image(true, true);
	struct nvc_elf_facts facts;
	struct nvc_error err = {0};
	char path[4096];

	(void)snprintf(path, sizeof path, "%s/lib.so", directory);
	write_file(path, &img);
	if (CHECK(tap, nvc_elf_read(path, &facts, &err) == 0))
		check_facts(tap, &facts, true);
	if (truncate(path, STRINGS + 10) < 0)
		abort();
	CHECK(tap, nvc_elf_read(path, &facts, &err) == -1);
	CHECK(tap, err.code == NVC_EMALFORMED);
	CHECK_STR(tap, err.path, path);
	CHECK_STR(tap, err.msg, "elf data read error");
	PUT(&img, 0, Ehdr, e_phoff, UINT64_MAX / 2); /* more than a file offset can be */
	write_file(path, &img);
	CHECK(tap, nvc_elf_read(path, &facts, &err) == -1);
	CHECK(tap, err.code == NVC_EMALFORMED);
}

static void test_not_a_file(struct tap *tap, const char *directory)
{
	struct nvc_elf_facts facts;
	struct nvc_error err = {0};
	char path[4096];

	(void)snprintf(path, sizeof path, "%s/pipe", directory);
	if (mkfifo(path, 0600) < 0)
		abort();
	CHECK(tap, nvc_elf_read(path, &facts, &err) == -1);
	CHECK_STR(tap, err.msg, "elf file read error");
	CHECK(tap, nvc_elf_read(directory, &facts, &err) == -1);
	CHECK(tap, err.code == NVC_EMALFORMED);
	(void)snprintf(path, sizeof path, "%s/none", directory);
	CHECK(tap, nvc_elf_read(path, &facts, &err) == -1);
	CHECK(tap, err.code == NVC_EPATH && err.sys_errno == ENOENT);
	CHECK_STR(tap, err.step, "open");
}

int main(int argc, char **argv)
{
	struct tap tap = {0};

	if (argc != 2)
		return 2;
	test_classes_and_orders(&tap);
	test_truncated(&tap);
	test_corrupted(&tap);
	test_contradictions(&tap);
	test_no_dynamic_section(&tap);
	test_too_many_names(&tap);
	test_file(&tap, argv[1]);
	test_not_a_file(&tap, argv[1]);
	return tap_done(&tap);
}
