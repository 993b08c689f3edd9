"""What several sources say of one thing is put together, and what they do not agree on is told."""

from __future__ import annotations

import pytest

from scenarios.importers.facts import AdapterFacts, ImportSourceError, Said, ServerFacts, SourceFacts
from scenarios.importers.merging import merged
from scenarios.importers.model_names import hub_name, plain_model


def at(place: str) -> SourceFacts:
    return SourceFacts("x", (AdapterFacts("fr", place, source=Said(place, place)),))


def test_weights_at_two_places_are_told_and_the_first_counts() -> None:
    fleet = merged([at("/a/fr"), at("/b/fr")])
    source = fleet.adapters["fr"].source
    assert source is not None
    assert source.value == "/a/fr"
    assert fleet.notes == ("Sources have weights of fr at several places: the first counts.",)
    assert not merged([at("/a/fr"), at("/a/fr")]).notes


def test_settings_that_sources_do_not_agree_on_are_left_to_the_user() -> None:
    blue, green = (
        SourceFacts("x", settings={"namespace": Said[object](name, f"{name}.yaml")})
        for name in ("blue", "green")
    )
    fleet = merged([blue, green])
    assert fleet.settings == {}
    assert "blue and green" in fleet.notes[0]
    assert merged([blue, blue]).settings["namespace"].value == "blue"


def test_a_folder_of_the_hubs_cache_is_the_model_of_its_name() -> None:
    cached = "/root/.cache/huggingface/hub/models--org--Base/snapshots/0123abcd"
    assert hub_name(cached) == hub_name(cached + "/") == "org/Base"
    assert plain_model(cached) == "base"
    for name in ("org/base", "/models/base", "models--a--b", "/x/models--a--b/refs/main", ""):
        assert hub_name(name) == name


def test_a_folder_and_a_name_of_one_model_are_one() -> None:
    server = ServerFacts("s", "serve.sh", model=Said("/x/models--org--Base/snapshots/01", "serve.sh"))
    adapter = AdapterFacts("fr", "a", base_model=Said("org/base", "a"))
    fleet = merged([SourceFacts("x", (adapter,), (server,))])
    assert {plain_model(said.value) for said in fleet.models} == {"base"}


def test_of_many_contradictions_the_first_are_told_and_the_others_counted() -> None:
    def ranks(rank: int) -> SourceFacts:
        named = (AdapterFacts(f"a{k}", "o", rank=Said(rank, f"rank {rank}")) for k in range(30))
        return SourceFacts("folder", tuple(named))

    with pytest.raises(ImportSourceError) as refused:
        merged([ranks(8), ranks(16)])
    assert len(refused.value.problems) == 6
    assert "contradict each other 25 times more" in str(refused.value)
