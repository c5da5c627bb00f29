/* SPDX-License-Identifier: Apache-2.0 */
/* Kept plans: by what they are found, and what they do to a container's configuration. Both the
 * Python that keeps one and the launcher that uses it call this, so that they cannot differ.
 * Privileges: to read the container's files. Fork class: parent only. */
#pragma once

#include "nvc_document.h"

/* Memory of malloc. */
struct nvc_bytes {
	char *data;
	size_t len;
};

void nvc_bytes_free(struct nvc_bytes *bytes);

/* 64 bits, other ones on a machine of other byte order. No change of one byte leaves them as they
 * are. */
uint64_t nvc_kept_hash(const char *data, size_t len);

/* Write down all that a plan for a container rests on beside the host.
 *
 * header: what the caller adds: the configuration, its own environment.
 * asks: strings that mark what is read of the document (nvc_document_key).
 * rootfs: path of the container's root on the host; what inspect_rootfs looks at is part of it.
 *
 * False if the document or the image is not plain: then nothing is kept for it. */
bool nvc_kept_key(const struct nvc_document *document, struct nvc_strings header,
                  struct nvc_strings asks, const char *rootfs, struct nvc_bytes *out);

/* The same of the image alone: what inspect_container looks at. */
bool nvc_kept_image(const char *rootfs, struct nvc_bytes *out);

/* What of a container's root decides what a hook of a CDI file does there. False for hooks of which
 * nothing is kept, and where that cannot be told. */
bool nvc_kept_hook(const char *rootfs, const char *hook, struct nvc_bytes *out);

/* Write the document with an edit. False where that is left to Python. */
bool nvc_kept_edit(const struct nvc_document *document, const struct nvc_edit *edit,
                   struct nvc_bytes *out);
