"""The simulated market: one object that knows the truth and plays it out."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from features.history.append import CustomerRecord
from models.choice import BoolArray, FloatArray
from models.domain.action import ActionGrid
from models.domain.campaign import Campaign, Content, Offer, SendWindow
from models.domain.channel import DEFAULT_CHANNELS, Channel, ContentKind, CostUnit
from models.domain.customer import Consent, Customer, Identity
from models.domain.errors import require
from models.domain.experiment import Experiment
from models.domain.interaction import Interaction
from models.logged import IntArray
from training.simulator import behaviour, facts, people
from training.simulator.candidates import market_candidates, send_times
from training.simulator.outcomes import COVERED_DAYS, Outcomes, draw_outcomes
from training.simulator.population import draw_population
from training.simulator.presets import SLOTS, OfferTruth, preset_of, varied
from training.simulator.response import Response
from training.simulator.state import DAY, initial_state

# Streams of chance that do not disturb each other, by purpose.
_PRESET, _POPULATION, _STATE, _LIFECYCLE, _EVERYDAY, _NEWSLETTER = range(6)
_COST_SOURCE = "simulated"
# Rows for which all actions are held at once; bounds memory.
_CHUNK = 50_000


class Market:
    """A simulated market of n customers.

    Customers are rows `0..n-1`; actions are those of `grid`. Everything is drawn from `seed`, or from the
    generator that is handed in. Contacts move the state: pressure, permission, lifecycle.

    Args:
        preset: `retail`, `bank` or `travel`.
        n_customers: From 100 on.
        seed: Of the population and of everyday behaviour.
        withheld: Channels that do not exist until `new_channel` is called.
        withheld_offers: Offers that do not exist until `new_offer` is called; not all of them.
    """

    def __init__(
        self,
        preset: str,
        n_customers: int,
        seed: int,
        withheld: tuple[str, ...] = (),
        withheld_offers: tuple[str, ...] = (),
    ) -> None:
        require(n_customers >= 100, "n_customers", n_customers, "must be >= 100")
        self.preset = varied(preset_of(preset), np.random.default_rng([seed, _PRESET]))
        self.n_customers = n_customers
        self.seed = seed
        names = tuple(self.preset.channels)
        for name in withheld:
            require(name in names, "withheld", name, f"must be one of {', '.join(names)}")
        offers = tuple(offer.offer_id for offer in self.preset.offers)
        for name in withheld_offers:
            require(name in offers, "withheld_offers", name, f"must be one of {', '.join(offers)}")
        require(
            len(set(withheld_offers)) < len(offers), "withheld_offers", withheld_offers, "must leave an offer"
        )
        defaults = {channel.name: channel for channel in DEFAULT_CHANNELS}
        self._channels = {
            name: replace(
                defaults[name],
                cost_minor=truth.cost_minor,
                cost_source=_COST_SOURCE,
                cost_unit=CostUnit.MESSAGE,
            )
            for name, truth in self.preset.channels.items()
        }
        kinds = tuple(channel.identity_kind for channel in self._channels.values())
        self.population = draw_population(self.preset, kinds, n_customers, self._rng(_POPULATION))
        self.response = Response(self.preset, self.population)
        columns = [self.population.identity_kinds.index(kind) for kind in kinds]
        self.reachable = self.population.identity[:, columns]
        self.state = initial_state(self.population, self.reachable, self._rng(_STATE))
        self._columns = np.array([i for i, name in enumerate(names) if name not in withheld])
        self._offers = np.array([i for i, name in enumerate(offers) if name not in withheld_offers])
        self._days = 0

    def _rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *stream])

    def fork(self) -> Market:
        """The same market as of now, to be played on apart: same people, own state and own truth."""
        other = object.__new__(Market)
        other.__dict__ |= self.__dict__
        other.state = self.state.copy()
        other.response = self.response.copy()
        return other

    # What an operator would configure.

    @property
    def grid(self) -> ActionGrid:
        """Axes of this market's decisions."""
        return ActionGrid(
            tuple(offer.offer_id for offer in self._existing_offers()), tuple(self.channels()), SLOTS
        )

    def channels(self) -> dict[str, Channel]:
        """The channels that exist, by name; their costs are simulated."""
        everything = list(self._channels.values())
        return {everything[i].name: everything[i] for i in self._columns}

    def campaign(self, now: datetime, days: int = 365, experiment: Experiment | None = None) -> Campaign:
        """A campaign for this market, open from `now` for some days.

        Args:
            now: Aware.
            days: Length of the send window.
            experiment: Default: 5 % holdout, 10 % control.
        """
        name = f"simulated_{self.preset.name}"
        return Campaign(
            campaign_id=name,
            send_window=SendWindow(starts_at=now, ends_at=now + timedelta(days=days)),
            slots=SLOTS,
            offers=tuple(self._offer(truth) for truth in self._existing_offers()),
            channels=tuple(self.channels()),
            experiment=experiment or Experiment(experiment_id=name, holdout_share=0.05, control_share=0.10),
            conversion_value_minor=self.preset.margin_minor,
            attribution_window_seconds=int(COVERED_DAYS * DAY),
            simulated=True,
        )

    def _existing_offers(self) -> list[OfferTruth]:
        return [self.preset.offers[i] for i in self._offers]

    def _offer(self, truth: OfferTruth) -> Offer:
        link = f"https://shop.example.com/{truth.offer_id}"
        text = f"{truth.title}. {truth.body} {link}"
        html = f"<h1>{truth.title}</h1><p>{truth.body}</p><p><a href='{link}'>Have a look</a></p>"
        return Offer(
            offer_id=truth.offer_id,
            margin_minor=self.preset.margin_minor * truth.margin_share,
            content={
                ContentKind.HTML: Content(subject=truth.title, body=html, link_url=link),
                ContentKind.TEXT: Content(subject=truth.title, body=text, link_url=link),
                ContentKind.TEMPLATE: Content(subject=truth.title, body=text, link_url=link),
            },
        )

    # Who the customers are, as a register would know them.

    def customer_ids(self, rows: IntArray | None = None) -> list[str]:
        """Ids, in the order of the rows."""
        return [people.customer_id(row) for row in self._rows(rows).tolist()]

    def customers(self, now: datetime) -> list[CustomerRecord]:
        """Everybody, with the few attributes that a company knows, created before `now`.

        Pass the start of `prior_history`, so that nobody acts before they are known.
        """
        return people.records(self.preset, self.population, now)

    def identities(self, now: datetime) -> list[Identity]:
        """Every account that exists on the channels that exist."""
        kinds = {channel.identity_kind for channel in self.channels().values()}
        return people.identities(self.population, kinds, now)

    def consents(self, now: datetime) -> list[Consent]:
        """The latest consent of everybody who was ever asked, for marketing, on the channels that exist."""
        return people.consents(self.state, self._names(), now)

    def people(self, rows: IntArray, campaign: Campaign) -> list[Customer]:
        """What eligibility needs to know of some customers, as of now."""
        return people.customers(self.preset, self.population, self.state, self._names(), rows, campaign)

    def _names(self) -> dict[int, str]:
        names = tuple(self._channels)
        return {int(column): names[column] for column in self._columns}

    def _rows(self, rows: IntArray | None) -> IntArray:
        return np.arange(self.n_customers) if rows is None else np.asarray(rows, dtype=np.int64)

    # The truth: for yardsticks and tests, never for a learner.

    def expected_net_value(self, rows: IntArray, now: datetime) -> FloatArray:
        """The oracle: true expected incremental net value of every action, minor units, shape (n, A).

        Margin that the contact adds (through opening and directly), less margin cannibalised by a discount,
        cost, later margin lost with those who leave, and a price of fatigue. No contact is 0. Candidates or
        not: see `mask`.
        """
        rows = self._rows(rows)
        values = np.zeros((len(rows), self.grid.n_actions))
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            contacts = self.response.net_value(
                part, self.state.lifecycle[part], self.state.pressure_of(part, now.timestamp())
            )
            existing = contacts[:, self._offers][:, :, self._columns]
            values[start : start + _CHUNK, :-1] = existing.reshape(len(part), -1)
        return values

    def true_p_open(self, rows: IntArray, now: datetime) -> FloatArray:
        """True probability that a message which arrives is opened by a person, shape (n, C, S)."""
        rows = self._rows(rows)
        pressure = self.state.pressure_of(rows, now.timestamp())
        p_open = self.response.p_open(rows, self.state.lifecycle[rows], pressure)
        return p_open[:, self._columns].astype(np.float64)

    def true_uplift(self, rows: IntArray, now: datetime) -> FloatArray:
        """True probability of a purchase that a contact adds, shape (n, O, C, S)."""
        rows = self._rows(rows)
        pressure = self.state.pressure_of(rows, now.timestamp())
        uplift = self.response.uplift(rows, self.state.lifecycle[rows], pressure)
        return uplift[:, self._offers][:, :, self._columns].astype(np.float64)

    def true_p_convert_no_contact(self, rows: IntArray) -> FloatArray:
        """True probability of a purchase within seven days without contact, shape (n,)."""
        rows = self._rows(rows)
        return self.response.p_base(rows, self.state.lifecycle[rows]).astype(np.float64)

    # Playing it out.

    def mask(self, rows: IntArray, campaign: Campaign, now: datetime) -> BoolArray:
        """Candidates, shape (n, A), by the rules of `models.domain.eligibility`."""
        return market_candidates(
            campaign,
            self.channels(),
            self.state,
            self._rows(rows),
            columns=self._columns,
            reachable=self.reachable,
            zone_of=self.population.zone,
            zones=tuple(self.preset.time_zones),
            now=now,
        ).mask

    def send_at(self, rows: IntArray, campaign: Campaign, now: datetime) -> FloatArray:
        """Send time of every slot, seconds since 1970, shape (n, S)."""
        return send_times(campaign, tuple(self.preset.time_zones), now)[self.population.zone[rows]]

    def start_at(self, rows: IntArray, actions: IntArray, campaign: Campaign, now: datetime) -> FloatArray:
        """Send time of the chosen actions, `now` for no contact, seconds since 1970, shape (n,)."""
        _, _, slot = self._unravel(np.asarray(actions, dtype=np.int64))
        times = self.send_at(rows, campaign, now)
        return np.where(slot >= 0, times[np.arange(len(times)), slot], now.timestamp())

    def respond(
        self, rows: IntArray, actions: IntArray, start_at: FloatArray, rng: np.random.Generator
    ) -> Outcomes:
        """Play out one decision for each of some customers and move the market on.

        Purchases of the following seven days are drawn once: where decisions of a customer overlap, the
        second draws its own effect and the days that the first did not cover.

        Args:
            rows: Customers, each at most once, shape (n,).
            actions: Index of the action in `grid`, shape (n,).
            start_at: Send time, or time of decision for no contact, seconds since 1970, shape (n,).
            rng: Source of chance.
        """
        rows, actions = self._rows(rows), np.asarray(actions, dtype=np.int64)
        require(len(np.unique(rows)) == len(rows), "rows", len(rows), "must hold each customer at most once")
        offer, channel, slot = self._unravel(actions)
        return draw_outcomes(
            self.preset,
            self.population,
            self.response,
            self.state,
            rows=rows,
            offer=np.where(offer >= 0, self._offers[offer], -1),
            channel=np.where(channel >= 0, self._columns[channel], -1),
            slot=slot,
            start_at=start_at,
            rng=rng,
        )

    def _unravel(self, actions: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """(offer, channel, slot) in the grid, each -1 for no contact."""
        _, n_channels, n_slots = self.grid.shape
        contact = actions != self.grid.no_contact
        rest, slot = np.divmod(actions, n_slots)
        offer, channel = np.divmod(rest, n_channels)
        return (
            np.where(contact, offer, -1),
            np.where(contact, channel, -1),
            np.where(contact, slot, -1),
        )

    def interactions(
        self, outcomes: Outcomes, decision_ids: list[str], campaign_id: str
    ) -> list[Interaction]:
        """What the history gets to see of some outcomes: only what their channels report."""
        return facts.interactions(
            self.preset, tuple(self._channels.values()), outcomes, decision_ids, campaign_id
        )

    def prior_history(self, start: datetime, days: int) -> list[Interaction]:
        """Behaviour before any campaign: visits, carts, purchases, and a weekly newsletter with its opens."""
        history = self.everyday(start, days)
        for week in range(days // 7):
            moment = start + timedelta(days=7 * week)
            history += behaviour.newsletter(
                self.preset,
                self.population,
                self.response,
                self.state,
                tuple(self._channels.values()),
                moment,
                week,
                self._rng(_NEWSLETTER, int(moment.timestamp())),
            )
        return history

    def everyday(self, start: datetime, days: int) -> list[Interaction]:
        """Visits, carts and purchases of some days, but for purchases that `respond` has drawn already."""
        return behaviour.everyday(
            self.preset,
            self.population,
            self.response,
            self.state,
            start,
            days,
            self._rng(_EVERYDAY, int(start.timestamp())),
        )

    def advance(self, days: int = 1) -> None:
        """Let some days pass: customers lapse who do not buy."""
        self._days += days
        self.state.age(days, self._rng(_LIFECYCLE, self._days))

    # Drift: the truth changes from now on.

    def collapse(self, channel: str, logit: float = 3.0) -> None:
        """A channel all but stops being read."""
        self.response.truth.open_logit[self._column(channel)] -= logit

    def boost(self, channel: str, logit: float = 1.0) -> None:
        """A channel is read more than before."""
        self.response.truth.open_logit[self._column(channel)] += logit

    def shift_hours(self, hours: float) -> None:
        """Everybody's best hours move, later for a positive number."""
        self.response.truth.hours_shift += hours

    def season(self, factor: float) -> None:
        """Purchases without contact become more or fewer; 1 is the ordinary season."""
        require(factor > 0, "factor", factor, "must be > 0")
        self.response.truth.season = factor

    def new_channel(self, channel: str) -> None:
        """Open a channel that was withheld: it comes last on the grid from now on."""
        column = self._column(channel)
        require(column not in self._columns, "channel", channel, "must be one that was withheld")
        self._columns = np.append(self._columns, column)

    def new_offer(self, offer_id: str) -> None:
        """Open an offer that was withheld: it comes last on the grid, and in new campaigns, from now on."""
        names = [offer.offer_id for offer in self.preset.offers]
        require(offer_id in names, "offer_id", offer_id, f"must be one of {', '.join(names)}")
        index = names.index(offer_id)
        require(index not in self._offers, "offer_id", offer_id, "must be one that was withheld")
        self._offers = np.append(self._offers, index)

    def _column(self, channel: str) -> int:
        names = tuple(self._channels)
        require(channel in names, "channel", channel, f"must be one of {', '.join(names)}")
        return names.index(channel)
