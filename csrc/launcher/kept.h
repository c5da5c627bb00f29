/* SPDX-License-Identifier: Apache-2.0 */
/* What Python kept of a result (libnvc/_kept.py writes it), and whether all that it rests on is
 * still the same. A file of
 *
 *     nvckept 1 <version of libnvc>
 *     sections, each <length>:<bytes>: the key, the dependencies, and those of the result
 *     <hash of all of that, 16 digits>
 *
 * Anything else, another version or hash: nothing is kept, and Python decides. Privileges: those of
 * /run/libnvc, and to look at the driver's files. */
#pragma once

#include "front.h"
#include "nvc_kept.h"
#include "self.h"

/* Dependencies are
 *
 *     i<dev> <ino> <size> <mtime_ns> <ctime_ns> <path>\0    zeros: nothing is there
 *     c<mode> <length> <path>\0<bytes>                      a file's content
 *     n0 <length> <path>\0<bytes>                           the names in a directory, sorted
 */
struct kept {
	struct nvc_json key, dependencies;
	struct nvc_json result; /* its sections */
};

/* Find the parts. False if anything is not as it should be. */
bool kept_parse(const char *text, size_t len, const char *version, struct kept *out);

/* Take a section of a result; the last ones are followed by nothing. */
bool kept_section(struct nvc_json *left, struct nvc_json *out);

/* Take a section that holds strings. */
bool kept_strings(struct nvc_json *left, struct nvc_strings *out);

/* Write how a key begins: by what this program was called. `config`: the identity of config.toml,
 * or "". */
bool kept_header(const struct self *self, const char *config, FILE *out);

/* Write the key of what a container is given: its configuration, and its root on the host. False if
 * one of them is not plain. */
bool kept_key(const struct self *self, const struct front *front,
              const struct nvc_document *document, const char *rootfs, struct nvc_bytes *out);

/* Whether this is the host's user namespace. */
bool kept_in_first_user_namespace(void);

/* A descriptor of /run/libnvc; -1 unless only we may enter it. */
int kept_run_directory(void);

/* Find what is kept under a key, and see that it may be used now. `file` keeps its text. */
bool kept_load(const char *version, const struct nvc_bytes *key, struct file *file,
               struct kept *out);

/* Whether everything is as it was. False also where that cannot be told. */
bool kept_is_current(struct nvc_json dependencies);
