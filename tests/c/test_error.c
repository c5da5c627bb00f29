/* SPDX-License-Identifier: Apache-2.0 */
/* needs: error */
#include "nvc_error.h"

#include <errno.h>

#include "tap.h"

static void test_fail(struct tap *tap)
{
	struct nvc_error err;

	memset(&err, 'x', sizeof err);
	errno = EACCES;
	CHECK(tap, nvc_fail(&err, NVC_EMALFORMED, "parse", "/etc/ld.so.cache", "bad") == -1);
	CHECK(tap, err.code == NVC_EMALFORMED);
	CHECK(tap, err.sys_errno == 0);
	CHECK(tap, err.op_index == -1);
	CHECK_STR(tap, err.step, "parse");
	CHECK_STR(tap, err.path, "/etc/ld.so.cache");
	CHECK_STR(tap, err.msg, "bad");
}

static void test_fail_errno(struct tap *tap)
{
	struct nvc_error err;

	memset(&err, 'x', sizeof err);
	errno = EACCES;
	CHECK(tap, nvc_fail_errno(&err, NVC_EPATH, "open", NULL) == -1);
	CHECK(tap, err.code == NVC_EPATH);
	CHECK(tap, err.sys_errno == EACCES);
	CHECK_STR(tap, err.path, "");
	CHECK_STR(tap, err.msg, "");
}

static void test_long_texts(struct tap *tap)
{
	char path[3000];
	struct nvc_error err;

	memset(path, 'a', sizeof path);
	memcpy(path + sizeof path - 5, "/end", 5);
	(void)nvc_fail(&err, NVC_EPATH, path, path, path);
	CHECK(tap, strlen(err.step) == sizeof err.step - 1);
	CHECK(tap, strlen(err.msg) == sizeof err.msg - 1);
	CHECK(tap, strlen(err.path) == sizeof err.path - 1);
	CHECK_STR(tap, err.path + strlen(err.path) - 4, "/end");
}

int main(void)
{
	struct tap tap = {0};

	test_fail(&tap);
	test_fail_errno(&tap);
	test_long_texts(&tap);
	return tap_done(&tap);
}
