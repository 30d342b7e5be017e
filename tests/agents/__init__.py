"""Tests of the roles without a broker."""

import pytest

pytest.register_assert_rewrite("tests.agents.valuation_harness")
