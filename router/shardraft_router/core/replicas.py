"""Which learners there are, and which of them answers the next stale read."""

from __future__ import annotations

from collections.abc import Sequence

from shardraft.kv.requests import LearnerPlace
from shardraft_router.core.exchange import Exchange
from shardraft_router.core.links import Link, Links, LinkState


class Replicas:
    """Chooses where stale reads go: learners of the highest tier in turn, else of lower tiers, else voters.

    A few learners are chosen and kept connected, so that a cluster with a thousand of them is not
    connected to by each of its clients; which few is drawn by lot, so that clients spread out.
    """

    def __init__(self, links: Links, exchange: Exchange) -> None:
        self._links = links
        self._exchange = exchange
        self._reports: dict[str, tuple[LearnerPlace, ...]] = {}
        self._lots: dict[str, float] = {}
        self._turn = 0
        self.needed = False
        """Whether a stale read was ever made; without one no learner is connected to."""
        self.chosen: list[Link] = []

    def report(self, reporter: Link, learners: Sequence[LearnerPlace]) -> None:
        """The host of ``reporter`` knows these below it, and no others."""
        self._reports[reporter.endpoint] = tuple(learners)
        reporter.surveyed = True
        for place in learners:
            link = self._links.at(place.endpoint)
            if not link.up:
                link.host = place.host
            link.tier = place.tier
        self.choose()

    def known(self) -> tuple[LearnerPlace, ...]:
        """All learners that any host reported, each once, in order of tier and host id."""
        places = {place.host: place for report in self._reports.values() for place in report}
        return tuple(sorted(places.values(), key=lambda place: (place.tier, place.host)))

    def need(self) -> None:
        """A stale read was made."""
        if not self.needed:
            self.needed = True
            self.choose()

    def choose(self) -> None:
        """Work out the chosen learners again; the links changed, or a report came."""
        if not self.needed:
            return
        learners = [self._links.at(place.endpoint) for place in self.known()]
        learners += [seed for seed in self._links.seeds if seed.up and seed.tier > 0]
        for link in learners:
            self._lots.setdefault(link.endpoint, self._exchange.random.random())
        ranked = sorted(dict.fromkeys(learners), key=self._rank)[: self._exchange.limits.learners_max]
        if ranked != self.chosen:
            for link in ranked:
                if link not in self.chosen:
                    # It may have been let go a moment ago: a read that comes before the driver hears of this waits too.
                    self._links.revive(link.endpoint)
            self.chosen = ranked
            self._links.changed = True

    def _rank(self, link: Link) -> tuple[bool, int, float]:
        return link.state is LinkState.DOWN, -link.tier, self._lots[link.endpoint]

    def next_link(self, tried: set[str]) -> Link | None:
        """The link for the next stale read, none of ``tried``; None while one is expected soon, or none is left.

        A learner that is still being connected to is waited for rather than passed over, and so is what
        the voter hosts, at first, have to tell about learners.
        """
        if not self._is_surveyed():
            return None
        left = [link for link in self.chosen if link.endpoint not in tried and link.state is not LinkState.DOWN]
        if left:
            tier = max(link.tier for link in left)
            ready = [link for link in left if link.tier == tier and link.up]
        else:
            ready = [link for link in self._fallbacks() if link.endpoint not in tried]
        if not ready:
            return None
        self._turn += 1
        return ready[self._turn % len(ready)]

    def _is_surveyed(self) -> bool:
        voters = (self._links.of(host) for host in self._links.voters)
        return all(link is not None and link.surveyed for link in voters)

    def _fallbacks(self) -> list[Link]:
        return self._links.up_voters() or [seed for seed in self._links.seeds if seed.up]
