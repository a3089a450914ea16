"""What the tests of all commands expect of a refusal."""


class Refusals:
    """For a unittest.TestCase."""

    def assert_refused(self, result, code, *parts):
        """Ended with `code` and one line on standard error that has all `parts`."""
        returncode, _, err = result
        self.assertEqual(returncode, code, err)
        self.assertEqual(err.count("\n"), 1, err)
        for part in parts:
            self.assertIn(part, err)
