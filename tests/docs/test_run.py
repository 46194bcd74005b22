"""That the runner notices when a page promises what does not happen."""

import contextlib
import io
import tempfile
import unittest
from pathlib import Path

import page as pages
import run


class Pages(unittest.TestCase):
    def said(self, **pages: str) -> str | None:
        """What the runner says about page.md beside the other pages."""
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            for name, text in pages.items():
                (Path(folder) / f"{name}.md").write_text(text)
            return run.run(Path(folder), "page.md", Path("/bin/true"))

    def test_blocks_share_the_state_of_the_shell(self):
        self.assertIsNone(self.said(page="```sh\nx=5\n```\ntext\n```sh\ntest $x = 5\n```\n"))

    def test_a_block_that_fails_is_named_with_its_line_and_its_output(self):
        said = self.said(page="text\n\n```sh\necho because\nfalse\necho never\n```\n")
        self.assertIn("page.md:3: the block failed", said)
        self.assertIn("because", said.split("it printed")[1])
        self.assertNotIn("never", said.split("it printed")[1])

    def test_a_block_of_a_language_that_runs_must_be_run_or_marked(self):
        for language in ("js", "python", "go", "rust", "console"):
            self.assertIn("neither run nor marked", self.said(page=f"```{language}\nx\n```\n"))
        self.assertIsNone(self.said(page="<!-- docs: shown, it needs a browser -->\n```js\nx\n```\n"))
        self.assertIn("says why", self.said(page="<!-- docs: shown -->\n```js\nx\n```\n"))
        self.assertIsNone(self.said(page='```json\n{"a": 1}\n```\n'))

    def test_what_a_block_is_said_to_print_is_looked_for(self):
        page = '<!-- docs: prints "{}" -->\n```sh\necho 42 events\n```\n'
        self.assertIsNone(self.said(page=page.format(r"\d+ events")))
        self.assertIn("does not print", self.said(page=page.format("43")))

    def test_a_job_in_the_background_is_waited_for_and_watched(self):
        page = (
            '<!-- docs: background echoing until ready -->\n```sh\nmkfifo pipe; echo ready; cat pipe; sleep 20\n```\n'
            '<!-- docs: then echoing prints "{}" -->\n```sh\necho hello >pipe\n```\n<!-- docs: stop echoing -->\n'
        )
        self.assertIsNone(self.said(page=page.format("hello")))
        ends = "<!-- docs: background job until ready -->\n```sh\necho no\n```\n"
        self.assertIn("before it ended", self.said(page=ends))

    def test_a_job_can_be_started_again(self):
        page = (
            "<!-- docs: background job until ready -->\n```sh\necho x >>starts; echo ready; sleep 20 &\n```\n"
            "<!-- docs: again job -->\n```sh\ntest $(wc -l <starts) = 2\n```\n"
        )
        self.assertIsNone(self.said(page=page))

    def test_a_block_that_must_fail_may_not_succeed(self):
        page = "<!-- docs: fails -->\n```sh\n{}\n```\n"
        self.assertIsNone(self.said(page=page.format("false")))
        self.assertIn("did not fail", self.said(page=page.format("true")))

    def test_a_port_is_the_same_free_one_wherever_a_page_names_it(self):
        page = "```sh\na=127.0.0.1:8080\n```\n```sh\nb=8080\ntest $a = 127.0.0.1:$b; test $b != 80''80\n```\n"
        self.assertIsNone(self.said(page=page))

    def test_a_page_goes_on_where_another_ended(self):
        self.assertIsNone(self.said(first="```sh\nx=5\n```\n", page="<!-- docs: after first.md -->\n```sh\ntest $x = 5\n```\n"))

    def test_a_file_is_written_for_the_blocks_after_it(self):
        page = "<!-- docs: file a/b.toml -->\n```toml\nx = 1\n```\n```sh\ngrep 'x = 1' a/b.toml\n```\n"
        self.assertIsNone(self.said(page=page))

    def test_an_instruction_that_nobody_knows_is_refused(self):
        self.assertIn("nobody knows", self.said(page="<!-- docs: print x -->\n```sh\ntrue\n```\n"))
        self.assertIn("above no block", self.said(page="<!-- docs: run -->\n\ntext\n"))

    def test_a_consumer_that_resumes_takes_less_than_ten_lines_in_each_client(self):
        for name in ("go", "python", "typescript"):
            page = pages.read(run.ROOT / f"clients/{name}/README.md", Path("README.md"))
            consumer = next(step for step in page.steps if "home.cursor" in step.code)
            lines = [line for line in consumer.code.splitlines() if line.strip()]
            self.assertLess(len(lines), 10, f"{name}: {lines}")

    def test_links_lead_somewhere(self):
        self.assertIn("leads nowhere", self.said(page="[x](missing.md)\n"))
        self.assertIn("no heading", self.said(page="[x](#there)\n\n## Here\n"))
        self.assertIsNone(self.said(page="[x](#over-here) [y](https://example.org)\n\n## Over here\n"))


if __name__ == "__main__":
    unittest.main()
