"""How many offers may be open at once."""

from __future__ import annotations

from workpool_operator.runs.offer_window import LARGEST, SMALLEST, OfferWindow


def burst(window: OfferWindow, *, per_second: float, polls: int, now: float = 0.0) -> float:
    """Claim at this rate and poll whenever the window is low; return the time."""
    window.resize(is_burst=False, open_offers=0, now=now)
    open_offers = window.size
    for _ in range(polls):
        claims = open_offers - window.size // 2
        for _ in range(claims):
            window.offer_closed()
        assert window.is_low(open_offers - claims)
        now += claims / per_second
        window.resize(is_burst=True, open_offers=open_offers - claims, now=now)
        open_offers = window.size
    return now


def test_a_burst_begins_with_a_small_window() -> None:
    assert OfferWindow().size == SMALLEST


def test_the_window_grows_to_the_claims_of_the_measured_rate_within_two_seconds() -> None:
    window = OfferWindow()
    assert burst(window, per_second=100, polls=4) < 2
    assert 100 <= window.size <= 150


def test_the_window_never_exceeds_a_page() -> None:
    window = OfferWindow()
    burst(window, per_second=10_000, polls=20)
    assert window.size == LARGEST


def test_the_window_shrinks_with_the_rate() -> None:
    window = OfferWindow()
    now = burst(window, per_second=100, polls=6)
    burst(window, per_second=20, polls=6, now=now)
    assert window.size <= 30


def test_the_window_grows_if_the_offers_ran_out() -> None:
    window = OfferWindow()
    window.resize(is_burst=False, open_offers=0, now=0)
    for _ in range(SMALLEST):
        window.offer_closed()
    window.resize(is_burst=True, open_offers=0, now=10)
    assert window.size == 2 * SMALLEST


def test_the_next_burst_begins_small_again() -> None:
    window = OfferWindow()
    now = burst(window, per_second=100, polls=6)
    window.resize(is_burst=False, open_offers=0, now=now + 10)
    assert window.size == SMALLEST
