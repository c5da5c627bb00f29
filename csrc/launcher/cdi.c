/* SPDX-License-Identifier: Apache-2.0 */
#include "cdi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bundle.h"
#include "give.h"
#include "kept.h"
#include "nvc_cleanup.h"

#define WHO        "nvidia-cdi-hook"
#define SEQUENCE   "sequence" /* cli/cdi_hook_words.py */
#define THEN       "then"
#define auto_bytes __attribute__((cleanup(nvc_bytes_free)))

bool cdi_reads_state(char *const *arguments)
{
	static const char *const others[] = {"container-spec", "help", "h"};

	if (arguments[0] == NULL || arguments[0][0] == '-' || isatty(STDIN_FILENO))
		return false;
	for (; *arguments != NULL; arguments++) {
		const char *name = *arguments + strspn(*arguments, "-");
		size_t len = strcspn(name, "=");
		for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
			if (strlen(others[i]) == len && memcmp(others[i], name, len) == 0)
				return false;
		}
	}
	return true;
}

/* Whether the environment asks for more or fewer messages than usual. */
static bool is_usual(void)
{
	static const char *const names[] = {"NVIDIA_CTK_DEBUG", "NVIDIA_CTK_QUIET",
	                                    "NVIDIA_CDI_DEBUG", "NVIDIA_CDI_QUIET"};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char *value = getenv(names[i]);
		if (value != NULL && value[0] != '\0' && strcmp(value, "false") != 0)
			return false;
	}
	return true;
}

/* The container's root: that of its state, else that of its configuration. */
static bool find_root(const struct file *state, char out[PATH_MAX])
{
	auto_file struct file file = {.data = NULL};
	struct nvc_document document;
	struct state named;

	if (!state_read(state->data, state->len, &named) || named.is_odd)
		return false;
	if (named.root.at == NULL) {
		if (!bundle_read(&named, &file, &document))
			return false;
		named.root = document.path;
	}
	if (!bundle_follow(&named, named.root, out) || strcmp(out, "/") == 0)
		return false;
	for (const char *at = out; *at != '\0'; at++) {
		if ((unsigned char)*at < ' ' || *at == '\x7f')
			return false;
	}
	return true;
}

/* The key of one hook; cli/cdi_hook_kept.py writes the same. */
static bool put_key(const struct self *self, char *const *words, size_t count, const char *rootfs,
                    struct nvc_bytes *out)
{
	auto_bytes struct nvc_bytes seen = {.data = NULL};
	const char *config = getenv("NVIDIA_CTK_CONFIG_FILE_PATH");
	nvc_autofile FILE *stream = open_memstream(&out->data, &out->len);
	bool good = stream != NULL && kept_header(self, config == NULL ? "" : config, stream);

	for (size_t i = 0; good && i < count; i++)
		good = fputc('w', stream) >= 0 && fputs(words[i], stream) >= 0 &&
		       fputc('\0', stream) >= 0;
	return good && nvc_kept_hook(rootfs, words[0], &seen) &&
	       fwrite(seen.data, 1, seen.len, stream) == seen.len && fflush(stream) == 0;
}

static bool do_hook(const struct self *self, char *const *words, size_t count, const char *rootfs)
{
	auto_bytes struct nvc_bytes key = {.data = NULL};
	auto_file struct file file = {.data = NULL};
	struct container container = {.pid = 0, .rootfs = rootfs};
	struct kept kept;

	return count > 0 && put_key(self, words, count, rootfs, &key) &&
	       kept_load(NVC_VERSION, &key, &file, &kept) &&
	       give_kept(&container, kept.result, WHO);
}

char **cdi_kept(const struct self *self, char **arguments, const struct file *state)
{
	bool is_sequence = arguments[0] != NULL && strcmp(arguments[0], SEQUENCE) == 0;
	char **words = arguments + is_sequence, rootfs[PATH_MAX];

	if (!is_usual() || !kept_in_first_user_namespace() || !find_root(state, rootfs))
		return arguments;
	for (;;) {
		size_t count = 0;
		while (words[count] != NULL && !(is_sequence && strcmp(words[count], THEN) == 0))
			count++;
		if (!do_hook(self, words, count, rootfs))
			break;
		if (words[count] == NULL)
			return NULL;
		words += count + 1;
	}
	/* The word before those that are left is the one of a sequence, or stands between two. */
	static char sequence[] = SEQUENCE;
	if (is_sequence)
		*--words = sequence;
	return words;
}
