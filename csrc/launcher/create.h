/* SPDX-License-Identifier: Apache-2.0 */
/* Give a container that is created its GPUs by a kept plan, as cli/runtime_create.py does without
 * one. Privileges: root. */
#pragma once

#include "front.h"
#include "self.h"

/* What a command line says that matters here. */
struct command {
	bool is_create;
	bool is_version;
	bool is_dangling; /* the last word is a flag that wants another */
	const char *bundle;
	char *const *words;
};

/* Change the bundle of a container, whose configuration is `document`. False if Python must do it:
 * nothing has been changed then, or what it writes anew. */
bool create_kept(const struct self *self, const struct front *front, const struct command *command,
                 const struct file *document);
