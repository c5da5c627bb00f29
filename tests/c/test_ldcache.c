/* SPDX-License-Identifier: Apache-2.0 */
/* needs: error ldcache */
#include "nvc_ldcache.h"

#include "tap.h"

#define HEADER 48u
#define ENTRY  24u

/* A cache under construction. */
struct cache {
	uint8_t data[8192];
	size_t len;
};

static void put(struct cache *cache, const void *data, size_t len)
{
	memcpy(cache->data + cache->len, data, len);
	cache->len += len;
}

static void put_u32(struct cache *cache, uint32_t value)
{
	put(cache, &value, sizeof value);
}

static void put_old(struct cache *cache, uint32_t count)
{
	put(cache, "ld.so-1.7.0", 12);
	put_u32(cache, count);
	for (uint32_t i = 0; i < 3 * count; i++)
		put_u32(cache, 0xffffffff);
	while (cache->len % 8 != 0)
		put(cache, "", 1);
}

static void put_header(struct cache *cache, uint32_t count)
{
	put(cache, "glibc-ld.so.cache1.1", 20);
	put_u32(cache, count);
	for (int i = 0; i < 6; i++)
		put_u32(cache, 0);
}

static void put_entry(struct cache *cache, uint32_t flags, uint32_t soname, uint32_t path)
{
	put_u32(cache, flags);
	put_u32(cache, soname);
	put_u32(cache, path);
	for (int i = 0; i < 3; i++)
		put_u32(cache, 0);
}

/* Two entries with strings "a.so" and "/lib/a.so". */
static void put_pair(struct cache *cache)
{
	uint32_t strings = HEADER + 2 * ENTRY;

	put_header(cache, 2);
	put_entry(cache, 0x0303, strings, strings + 5);
	put_entry(cache, 0x0001, strings + 10, strings + 5);
	put(cache, "a.so\0/lib/a.so", 15);
}

/* Open and read everything, from memory of exactly `len` bytes. Returns the count or -1. */
static int read_all(const void *data, size_t len, struct nvc_ldcache_entry *entries, size_t room,
                    struct nvc_error *err)
{
	uint8_t *copy = tap_copy(data, len);
	struct nvc_ldcache head = {0};
	int result = nvc_ldcache_open(copy, len, &head, err);

	if (result == 0 && head.count > room)
		abort();
	if (result == 0)
		result = nvc_ldcache_entries(copy, len, &head, entries, err);
	free(copy);
	return result < 0 ? -1 : (int)head.count;
}

static void test_formats(struct tap *tap)
{
	struct nvc_ldcache_entry e[2];
	struct nvc_error err;

	for (uint32_t old = 0; old < 4; old++) {
		struct cache cache = {0};

		if (old > 0)
			put_old(&cache, old - 1);
		put_pair(&cache);
		if (!CHECK(tap, read_all(cache.data, cache.len, e, 2, &err) == 2))
			continue;
		CHECK(tap, e[0].flags == 0x0303 && e[1].flags == 0x0001);
		CHECK(tap, e[0].soname_len == 4 && e[0].path_len == 9 && e[1].path_len == 9);
		CHECK(tap, memcmp(cache.data + e[0].soname_off, "a.so", 5) == 0);
		CHECK(tap, memcmp(cache.data + e[1].soname_off, "a.so", 5) == 0);
		CHECK(tap, memcmp(cache.data + e[0].path_off, "/lib/a.so", 10) == 0);
	}
}

/* The oldest format: strings are relative to the end of the entries. */
static void test_old_alone(struct tap *tap)
{
	struct nvc_ldcache_entry e[1];
	struct nvc_error err = {0};
	struct cache cache = {0};
	size_t refused = 0;

	put(&cache, "ld.so-1.7.0", 12);
	put_u32(&cache, 1);
	put_u32(&cache, 0x0303);
	put_u32(&cache, 0);
	put_u32(&cache, 5);
	put(&cache, "a.so\0/lib/a.so", 15);
	CHECK(tap, read_all(cache.data, cache.len, e, 1, &err) == 1);
	CHECK(tap, e[0].flags == 0x0303 && e[0].soname_len == 4 && e[0].path_len == 9);
	CHECK(tap, memcmp(cache.data + e[0].soname_off, "a.so", 5) == 0);
	CHECK(tap, memcmp(cache.data + e[0].path_off, "/lib/a.so", 10) == 0);
	CHECK(tap, e[0].hwcap == 0 && e[0].hwcaps_len == 0 && e[0].os_version == 0);
	for (size_t len = 0; len < cache.len; len++)
		refused +=
		    read_all(cache.data, len, e, 1, &err) == -1 && err.code == NVC_EMALFORMED;
	CHECK(tap, refused == cache.len);
}

static void test_unaligned(struct tap *tap)
{
	struct nvc_ldcache_entry e[2];
	struct nvc_ldcache head;
	struct nvc_error err;
	struct cache cache = {.len = 1};

	put_pair(&cache);
	CHECK(tap, nvc_ldcache_open(cache.data + 1, cache.len - 1, &head, &err) == 0);
	CHECK(tap, nvc_ldcache_entries(cache.data + 1, cache.len - 1, &head, e, &err) == 0);
	CHECK(tap, e[0].soname_len == 4);
}

/* Cut short anywhere it is refused, never read beyond its end. */
static void test_truncated(struct tap *tap)
{
	struct nvc_ldcache_entry e[2];
	struct nvc_error err = {0};
	struct cache cache = {0};
	size_t refused = 0;

	put_old(&cache, 1);
	put_pair(&cache);
	for (size_t len = 0; len < cache.len; len++)
		refused +=
		    read_all(cache.data, len, e, 2, &err) == -1 && err.code == NVC_EMALFORMED;
	CHECK(tap, refused == cache.len);
	CHECK_STR(tap, err.msg, "unsupported file format");
}

static int read_one(uint32_t count, uint32_t soname, uint32_t path, struct nvc_error *err)
{
	struct nvc_ldcache_entry e[4];
	struct cache cache = {0};

	put_header(&cache, count);
	put_entry(&cache, 1, soname, path);
	put(&cache, "ab", 3);
	return read_all(cache.data, cache.len, e, 4, err);
}

static void test_offsets(struct tap *tap)
{
	const uint32_t strings = HEADER + ENTRY;
	struct nvc_error err = {0};

	CHECK(tap, read_one(0, 0, 0, &err) == 0);
	CHECK(tap, read_one(1, strings, strings + 1, &err) == 1);
	CHECK(tap, read_one(1, strings + 2, strings + 2, &err) == 1);
	CHECK(tap, read_one(1, strings + 3, strings, &err) == -1);
	CHECK(tap, read_one(1, strings, 0xffffffff, &err) == -1);
	CHECK(tap, read_one(2, strings, strings, &err) == -1);
	CHECK(tap, read_one(0xffffffff, strings, strings, &err) == -1);
	CHECK(tap, err.code == NVC_EMALFORMED);
}

static void test_old_counts(struct tap *tap)
{
	static const uint32_t counts[] = {2, 3, 0x15555555, 0x55555555, 0xfffffffe, 0xffffffff};
	struct nvc_ldcache_entry e[3];
	struct nvc_error err = {0};

	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
		struct cache cache = {0};

		put_old(&cache, 0);
		put_pair(&cache);
		memcpy(cache.data + 12, &counts[i], 4);
		CHECK(tap, read_all(cache.data, cache.len, e, 3, &err) == -1);
	}
}

static void test_refused(struct tap *tap)
{
	struct cache old_broken = {0}, long_string = {0};
	struct nvc_ldcache_entry e[2];
	struct nvc_error err = {0};

	put_old(&old_broken, 1);
	CHECK(tap, read_all(old_broken.data, old_broken.len, e, 2, &err) == -1);
	CHECK(tap, read_all("", 0, e, 2, &err) == -1);
	CHECK(tap, read_all("\177ELF", 4, e, 2, &err) == -1);

	put_header(&long_string, 1);
	put_entry(&long_string, 1, HEADER + ENTRY, HEADER + ENTRY);
	memset(long_string.data + HEADER + ENTRY, 'a', 4095);
	CHECK(tap, read_all(long_string.data, HEADER + ENTRY + 4096, e, 2, &err) == 1);
	CHECK(tap, e[0].path_len == 4095);
	long_string.data[HEADER + ENTRY + 4095] = 'a';
	CHECK(tap, read_all(long_string.data, HEADER + ENTRY + 4097, e, 2, &err) == -1);
}

int main(void)
{
	struct tap tap = {0};

	test_formats(&tap);
	test_old_alone(&tap);
	test_unaligned(&tap);
	test_truncated(&tap);
	test_offsets(&tap);
	test_old_counts(&tap);
	test_refused(&tap);
	return tap_done(&tap);
}
