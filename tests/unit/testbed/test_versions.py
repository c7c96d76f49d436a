"""The table of versions in the README, and the ranges that follow from it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from packaging.version import Version

from localnode import builds
from localnode.errors import SetupError
from testbed import environments, generated, versions
from testbed.versions import Cell, Result
from workpool_operator.binding.preflight_checks import OLDEST_SERVER

LOCKED = versions.LOCKED
SOME = Result("3.8.8", "3.6.1", "1.36.3", passed=10, failed=0, date="2026-11-26")


def test_without_a_choice_every_version_is_in_a_cell() -> None:
    cells = versions.cells({})
    assert len(cells) == len(set(cells))
    prefects = environments.prefect_versions()
    assert [cell.server for cell in cells if cell.client == LOCKED][: len(prefects)] == prefects
    assert {cell.client for cell in cells} == set(filter(versions.is_allowed, prefects))
    assert {cell.kubernetes for cell in cells} == set(builds.kubernetes_versions())


def test_the_variables_choose_cells_by_server_and_cluster() -> None:
    assert versions.cells({"PREFECT": "3.6"}) == [Cell(LOCKED, "3.6", builds.DEFAULT_KUBERNETES)]
    assert versions.cells({"KUBERNETES": "1.35"}) == [Cell(LOCKED, LOCKED, "1.35")]


def test_an_unknown_version_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SetupError, match=r"PREFECT=2.19 and .*: PREFECT is one of 3\.4, 3\.6"):
        versions.cells({"PREFECT": "2.19"})
    with pytest.raises(SetupError, match=r"PREFECT='2.19' has no lock in .*: use 3\.4, 3\.6"):
        environments.with_prefect("2.19")


def test_a_report_has_the_numbers_of_tests_that_passed_and_failed() -> None:
    report = "<testsuites><testsuite tests='10' failures='2' errors='1' /></testsuites>"
    assert versions.counts(ET.fromstring(report)) == (7, 3)


def test_a_new_result_replaces_that_of_the_same_cell() -> None:
    other = replace(SOME, server="3.9.1")
    again = replace(SOME, server="3.6.2", failed=1)
    assert versions.merged([other, SOME], again) == [again, other]


def test_the_table_shows_what_failed() -> None:
    *_, row = versions.table([replace(SOME, passed=9, failed=1)]).splitlines()
    assert row == "| 3.8.8 | 3.6.1 | 1.36.3 | 9 passed, 1 failed | 2026-11-26 |"


def test_the_readme_has_the_table_of_the_cells_that_ran() -> None:
    assert versions.table(versions.read()) in generated.COMPATIBILITY.read_text()


def test_the_package_allows_the_clients_that_ran_without_a_failure() -> None:
    ran = {each.cell.client for each in versions.read() if not each.failed}
    assert set(filter(versions.is_allowed, environments.prefect_versions())) == ran


def test_the_oldest_server_without_a_warning_is_the_oldest_that_ran_without_a_failure() -> None:
    oldest = min(Version(each.server) for each in versions.read() if not each.failed)
    assert (oldest.major, oldest.minor) == OLDEST_SERVER
