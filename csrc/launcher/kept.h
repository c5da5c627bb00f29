/* SPDX-License-Identifier: Apache-2.0 */
/* What Python kept of the creation of a container (libnvc/_kept.py writes it), and whether all that
 * it rests on is still the same. A file of
 *
 *     nvckept 1 <version of libnvc>
 *     ten sections, each <length>:<bytes>, in the order of struct kept
 *     <hash of all of that, 16 digits>
 *
 * Anything else, another version or hash: nothing is kept, and Python decides. Privileges: those of
 * /run/libnvc, and to look at the driver's files. */
#pragma once

#include "file.h"
#include "nvc_kept.h"

/* Dependencies are
 *
 *     i<dev> <ino> <size> <mtime_ns> <ctime_ns> <path>\0    zeros: nothing is there
 *     c<mode> <length> <path>\0<bytes>                      a file's content
 *     n0 <length> <path>\0<bytes>                           the names in a directory, sorted
 *
 * Messages are strings: 'i' or 'w', 'c' where the container is named first or '-', text of JSON. */
struct kept {
	struct nvc_json key, dependencies;
	struct nvc_edit edit; /* all but `plan` and `rootfs` */
	struct nvc_strings messages;
	struct nvc_json plan;
};

/* Find the parts. False if anything is not as it should be. */
bool kept_parse(const char *text, size_t len, const char *version, struct kept *out);

/* Find what is kept under a key, and see that it may be used now. `file` keeps its text. */
bool kept_load(const char *version, const struct nvc_bytes *key, struct file *file,
               struct kept *out);

/* Whether everything is as it was. False also where that cannot be told. */
bool kept_is_current(struct nvc_json dependencies);
