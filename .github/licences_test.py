"""Plants one fault after another and sees `licences` find it. No network, no cargo."""

import datetime
import importlib.machinery
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
import tomllib
import unittest

HERE = pathlib.Path(__file__).resolve().parent
# No bytecode beside the sources.
sys.dont_write_bytecode = True
_loader = importlib.machinery.SourceFileLoader("licences", str(HERE / "licences"))
_spec = importlib.util.spec_from_loader("licences", _loader)
licences = importlib.util.module_from_spec(_spec)
_loader.exec_module(licences)

TODAY = datetime.date(2026, 6, 1)
SUPPLY = {
    "licences": ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "ISC"],
    "exception": [{"crate": "roots", "licence": "CDLA-Permissive-2.0", "reason": "data"}],
    "duplicate": [{"crate": "syn", "lines": ["1", "2"], "reason": "derive crates"}],
}
ADVISORIES = {
    "snapshot": datetime.date(2026, 5, 1),
    "advisory": [
        {
            "crate": "leaky",
            "id": "RUSTSEC-2026-9999",
            "summary": "leaks",
            "patched": [">= 1.2.3, < 2.0.0", ">= 2.0.1"],
            "unaffected": ["< 1.0.0"],
        },
        {"crate": "abandoned", "id": "RUSTSEC-2026-9998", "summary": "unmaintained", "patched": []},
    ],
}


def crate(name="good", version="1.0.0", license="MIT", source="registry+somewhere"):
    return {"name": name, "version": version, "license": license, "source": source}


# What makes the planted supply.toml true: without these its own entries are the fault.
REST = [crate("roots", license="CDLA-Permissive-2.0"), crate("syn", "1.0.0"), crate("syn", "2.0.0")]


def faults_of(*crates, rest=REST, today=TODAY):
    faults, _ = licences.check({"packages": [*crates, *rest]}, SUPPLY, ADVISORIES, today)
    return faults


class Licences(unittest.TestCase):
    def test_a_clean_lock_has_no_fault(self):
        self.assertEqual(faults_of(crate()), [])

    def test_expressions_are_evaluated_and_not_searched(self):
        for expression, expected in [
            ("MIT", True),
            ("GPL-3.0-only", False),
            ("AGPL-3.0-or-later", False),
            ("MPL-2.0", False),
            ("MIT OR GPL-3.0-only", True),
            ("MIT AND GPL-3.0-only", False),
            ("MIT/Apache-2.0", True),
            ("GPL-2.0-only OR MPL-2.0", False),
            ("Apache-2.0 WITH LLVM-exception", True),
            ("MIT WITH LLVM-exception", False),
            ("GPL-3.0-only WITH LLVM-exception OR ISC", True),
            ("(MIT OR GPL-3.0-only) AND ISC", True),
            ("(MIT OR ISC) AND (GPL-3.0-only OR MPL-2.0)", False),
            ("GPL-3.0-only AND MIT OR ISC", True),
            ("ISC AND (Apache-2.0 OR ISC) AND MIT", True),
            ("NOTMIT", False),
        ]:
            with self.subTest(expression):
                self.assertEqual(faults_of(crate(license=expression)) == [], expected)

    def test_a_malformed_expression_is_an_error_and_not_a_pass(self):
        for expression in ["MIT OR", "(MIT", "MIT)", "MIT ISC", "OR MIT", "MIT AND OR ISC"]:
            with self.subTest(expression), self.assertRaises(licences.Malformed):
                faults_of(crate(license=expression))

    def test_a_missing_licence_is_refused(self):
        for missing in (None, ""):
            self.assertEqual(faults_of(crate(license=missing)), ["good 1.0.0: states no licence"])

    def test_an_exception_holds_for_its_crate_alone(self):
        found = faults_of(crate("other", license="CDLA-Permissive-2.0"))
        self.assertEqual(found, ["other 1.0.0: licence not allowed: CDLA-Permissive-2.0"])

    def test_an_exception_that_nothing_needs_is_a_fault(self):
        found = faults_of(rest=REST[1:])
        self.assertEqual(len(found), 1)
        self.assertIn("not needed", found[0])

    def test_a_crate_from_outside_the_registry_is_refused(self):
        found = faults_of(crate(source="git+https://example.com/good#abc"))
        self.assertEqual(len(found), 1)
        self.assertIn("not from the registry", found[0])

    def test_a_crate_of_the_workspace_has_no_source(self):
        self.assertEqual(faults_of(crate(source=None)), [])


class Advisories(unittest.TestCase):
    def test_a_version_is_affected_unless_it_is_in_a_range(self):
        for version, affected in [
            ("0.9.9", False),
            ("1.0.0", True),
            ("1.2.2", True),
            ("1.2.3-rc.1", True),
            ("1.2.3", False),
            ("1.10.0", False),
            ("1.2.3+build.7", False),
            ("2.0.0", True),
            ("2.0.1", False),
            ("10.0.0", False),
        ]:
            with self.subTest(version):
                self.assertEqual(faults_of(crate("leaky", version)) != [], affected)

    def test_the_fault_names_the_crate_the_advisory_and_the_cure(self):
        (fault,) = faults_of(crate("leaky", "1.0.0"))
        self.assertEqual(fault, "leaky 1.0.0: RUSTSEC-2026-9999: leaks; use >= 1.2.3, < 2.0.0 or >= 2.0.1")

    def test_without_a_fixed_release_every_version_is_refused(self):
        (fault,) = faults_of(crate("abandoned", "99.0.0"))
        self.assertIn("there is no fixed release", fault)

    def test_our_own_crate_may_share_a_name(self):
        self.assertEqual(faults_of(crate("leaky", "1.0.0", source=None)), [])

    def test_an_unreadable_range_is_an_error_and_not_a_pass(self):
        for text in ["1.2.3", "^1.2", ">= one", ""]:
            with self.subTest(text), self.assertRaises(licences.Malformed):
                licences.in_range("1.0.0", text)

    def test_an_old_snapshot_warns_and_does_not_fail(self):
        for days, warned in [(90, False), (91, True)]:
            today = ADVISORIES["snapshot"] + datetime.timedelta(days=days)
            faults, notes = licences.check({"packages": [crate(), *REST]}, SUPPLY, ADVISORIES, today)
            self.assertEqual(faults, [])
            self.assertEqual(any(note.startswith("warning:") for note in notes), warned, days)
            self.assertIn("2026-05-01", notes[0])


class Duplicates(unittest.TestCase):
    def test_a_new_duplicate_is_a_fault(self):
        (fault,) = faults_of(crate("twice", "0.1.9"), crate("twice", "0.2.0"))
        self.assertIn("twice: locked more than once (0.1, 0.2)", fault)

    def test_a_third_line_of_a_known_duplicate_is_a_fault(self):
        (fault,) = faults_of(crate("syn", "3.0.0"))
        self.assertIn("(1, 2, 3)", fault)

    def test_an_update_within_a_line_is_no_fault(self):
        rest = [REST[0], crate("syn", "1.9.0"), crate("syn", "2.7.1")]
        self.assertEqual(faults_of(rest=rest), [])

    def test_a_duplicate_that_is_gone_must_leave_the_list(self):
        (fault,) = faults_of(rest=REST[:2])
        self.assertIn("no longer a duplicate", fault)

    def test_lines_are_those_of_cargo(self):
        for version, line in [("1.2.3", "1"), ("0.2.3", "0.2"), ("0.0.3", "0.0.3"), ("1.2.1+spec-1.1.0", "1")]:
            self.assertEqual(licences.release_line(version), line)


class Files(unittest.TestCase):
    """The committed lists, and the program as it is run."""

    def test_every_entry_is_complete_and_readable(self):
        advisories = tomllib.loads((HERE / "advisories.toml").read_text())
        self.assertLessEqual(advisories["snapshot"], datetime.date.today())
        seen = set()
        for advisory in advisories["advisory"]:
            self.assertLessEqual(advisory.keys(), {"crate", "id", "summary", "patched", "unaffected"})
            self.assertRegex(advisory["id"], r"^(RUSTSEC-\d{4}-\d{4}|GHSA(-[0-9a-z]{4}){3}|[\w.-]+/[\w.-]+#\d+)$")
            self.assertNotIn((advisory["crate"], advisory["id"]), seen)
            seen.add((advisory["crate"], advisory["id"]))
            self.assertTrue(advisory["summary"])
            for comparators in advisory["patched"] + advisory.get("unaffected", []):
                licences.in_range("1.0.0", comparators)
        supply = tomllib.loads((HERE / "supply.toml").read_text())
        for entry in supply["exception"] + supply["duplicate"]:
            self.assertTrue(entry["reason"])
        for refused in ("GPL-3.0-only", "AGPL-3.0-only", "LGPL-2.1-or-later", "MPL-2.0"):
            self.assertFalse(licences.satisfied(refused, set(supply["licences"])))

    def test_the_program_ends_with_1_and_says_why(self):
        planted = {"packages": [crate("rustls", "0.23.44"), crate("viral", license="GPL-3.0-only")]}
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(planted, file)
            file.flush()
            run = subprocess.run(
                [sys.executable, HERE / "licences", "--metadata", file.name], capture_output=True, text=True
            )
        self.assertEqual(run.returncode, 1, run.stderr)
        self.assertRegex(run.stdout, r"error: rustls 0\.23\.44: RUSTSEC-2026-0285: ")
        self.assertIn("error: viral 1.0.0: licence not allowed: GPL-3.0-only", run.stdout)


if __name__ == "__main__":
    unittest.main()
