/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "give.h"
#include "kept.h"
#include "nvc_cleanup.h"
#include "nvc_io.h"
#include "python.h"
#include "say.h"

#define WHO        "nvidia-container-cli"
#define PID_OPTION "--pid="
#define auto_bytes __attribute__((cleanup(nvc_bytes_free)))

/* The container that a command line of `configure` names by these two words, which are not part of
 * what is asked for it. */
struct named {
	char *const *pid_word;
	char *const *rootfs_word;
};

/* A word that is all of a pid: no sign, no zero in front. Returns 0 for others. */
static int read_pid(const char *text)
{
	long pid = 0;

	if (*text == '0')
		return 0;
	for (; isdigit((unsigned char)*text) && pid <= INT_MAX; text++)
		pid = pid * 10 + (*text - '0');
	return *text == '\0' && pid <= INT_MAX ? (int)pid : 0;
}

/* Whether this can be the root of a container, as container_configure.py has it. */
static bool is_rootfs(const char *word)
{
	return word[0] == '/' && word[strspn(word, "/.")] != '\0' && strchr(word, '\n') == NULL;
}

/* Find these words; container_kept.py sees that they mean that. */
static bool find_named(char *const *arguments, struct named *out)
{
	*out = (struct named){.pid_word = NULL};
	for (; *arguments != NULL; arguments++) {
		if (strncmp(*arguments, PID_OPTION, sizeof PID_OPTION - 1) == 0) {
			if (out->pid_word != NULL)
				return false;
			out->pid_word = arguments;
		}
		out->rootfs_word = arguments;
	}
	return out->pid_word != NULL && out->pid_word != out->rootfs_word &&
	       is_rootfs(*out->rootfs_word);
}

/* What is kept rests on the words; container_kept.py writes the same. */
static bool put_words(const struct self *self, char *const *arguments, const struct named *named,
                      FILE *out)
{
	bool good = getenv("PATH") != NULL && kept_header(self, "", out);

	for (; good && *arguments != NULL; arguments++) {
		const char *word = *arguments;
		if (named != NULL && arguments == named->pid_word)
			word = PID_OPTION;
		else if (named != NULL && arguments == named->rootfs_word)
			word = "/";
		good = fputc('w', out) >= 0 && fputs(word, out) >= 0 && fputc('\0', out) >= 0;
	}
	return good;
}

/* The key of what a command prints, or, for one container, does. */
static bool put_key(const struct self *self, char *const *arguments, const struct named *named,
                    const struct container *container, struct nvc_bytes *out)
{
	auto_bytes struct nvc_bytes image = {.data = NULL};
	nvc_autofile FILE *stream = open_memstream(&out->data, &out->len);

	return stream != NULL && put_words(self, arguments, named, stream) &&
	       (container == NULL || (nvc_kept_image(container->seen, &image) &&
	                              fwrite(image.data, 1, image.len, stream) == image.len)) &&
	       fflush(stream) == 0;
}

/* Print the output that is kept. False if there is none. */
static bool print_kept(const struct self *self, char *const *arguments, int *status)
{
	auto_bytes struct nvc_bytes key = {.data = NULL};
	auto_file struct file file = {.data = NULL};
	struct nvc_json output;
	struct kept kept;

	if (!put_key(self, arguments, NULL, NULL, &key) ||
	    !kept_load(NVC_VERSION, &key, &file, &kept) || !kept_section(&kept.result, &output) ||
	    kept.result.at != kept.result.end)
		return false;
	*status = 0;
	if (nvc_write_all(STDOUT_FILENO, output.at, (size_t)(output.end - output.at)) < 0) {
		char why[128];
		nvc_copy(why, sizeof why, strerror(errno));
		why[0] = (char)tolower((unsigned char)why[0]);
		say(WHO, "output error: write failed: %s", why);
		*status = 1;
	}
	return true;
}

/* Give a container what is kept. False if Python must: nothing has been changed then. */
static bool configure_kept(const struct self *self, char *const *arguments,
                           const struct named *named)
{
	auto_bytes struct nvc_bytes key = {.data = NULL};
	auto_file struct file file = {.data = NULL};
	struct container container = {.pid = read_pid(*named->pid_word + sizeof PID_OPTION - 1),
	                              .rootfs = *named->rootfs_word};
	struct kept kept;

	return container.pid > 0 && kept_in_first_user_namespace() && container_find(&container) &&
	       put_key(self, arguments, named, &container, &key) &&
	       kept_load(NVC_VERSION, &key, &file, &kept) &&
	       give_kept(&container, kept.result, WHO);
}

int cli_run(const struct self *self, char *const *arguments)
{
	struct named named;
	int status = 0;

	if (geteuid() == 0 &&
	    (find_named(arguments, &named) ? configure_kept(self, arguments, &named)
	                                   : print_kept(self, arguments, &status)))
		return status;
	/* The environment is the caller's; -I ignores what would change Python. */
	return python_exec(self, "from libnvc.cli.container_cli import run; run()", arguments,
	                   environ);
}
