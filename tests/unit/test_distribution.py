"""A histogram of many values at once says what the client's own says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from serving.observability.distribution import Distribution

VALUES = st.lists(st.floats(-5.0, 5.0) | st.sampled_from([-1.0, 0.0, 1.0, 2.0]), max_size=30)


@given(VALUES, VALUES)
@pytest.mark.parametrize("bounds", [(-1.0, 0.0, 2.0), (0.0, 1.0, 2.0)])
def test_it_says_what_the_clients_histogram_says(bounds, first, second):
    ours, theirs = Distribution("figure", "A figure.", bounds), CollectorRegistry()
    histogram = Histogram("figure", "A figure.", buckets=bounds, registry=theirs)
    for values in (first, second):
        ours.observe(values)
        for value in values:
            histogram.observe(value)
    (told,) = ours.collect()
    expected = {
        (sample.name, *sample.labels.values()): pytest.approx(sample.value)
        for metric in theirs.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }
    assert told.type == "histogram"
    assert {(sample.name, *sample.labels.values()): sample.value for sample in told.samples} == expected
