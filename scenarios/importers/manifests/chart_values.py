"""Values of production-stack's Helm chart: an engine for each entry of modelSpec, and adapters.

Which values become which arguments is what helm/templates/deployment-vllm-multi.yaml @010004ee of
vllm-project/production-stack says; entries of loraAdapters are those of deployment-lora-adapter.yaml
@495bee2c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from scenarios.importers.facts import SourceFacts
from scenarios.importers.images import with_image
from scenarios.importers.manifests.adapters import lora_adapter
from scenarios.importers.manifests.containers import device_of_terms, engine_of, running, variables
from scenarios.importers.manifests.documents import Document, documents
from scenarios.importers.manifests.linking import gathered
from scenarios.importers.source import Source
from scenarios.text.display import visible
from scenarios.text.formatting import listed

_FLAGS = {
    "maxModelLen": "--max-model-len",
    "dtype": "--dtype",
    "tensorParallelSize": "--tensor-parallel-size",
    "maxNumSeqs": "--max-num-seqs",
    "gpuMemoryUtilization": "--gpu-memory-utilization",
    "maxLoras": "--max-loras",
}
_OTHERS = {"v0", "v1", "runner", "convert", "prometheusMultiprocDir", "extraArgs"}
"""Values that are no arguments by which memory is planned, and further arguments."""

_TOP = re.compile(
    rb'^(?:servingEngineSpec|loraAdapters)[ \t]*:|^[{ \t]*"servingEngineSpec"[ \t]*:', re.MULTILINE
)
_OBJECT = re.compile(rb'^apiVersion[ \t]*:|^\{?[ \t]*"apiVersion"[ \t]*:', re.MULTILINE)


def is_chart_values(source: Source) -> bool:
    """Whether a file looks like values of the chart."""
    return _TOP.search(source.head) is not None and _OBJECT.search(source.head) is None


def read_chart_values(source: Source) -> SourceFacts:
    """What values of the chart say of engines and adapters.

    Raises
    ------
    ImportSourceError
        If the file is damaged.
    """
    found = [facts for document in documents(source) for facts in _facts(document)]
    return gathered("values of production-stack", found)


def _facts(document: Document) -> Iterator[SourceFacts]:
    labels = document.labels("servingEngineSpec.labels")
    if document.value("servingEngineSpec.enableEngine") is not False:
        for spec in document.items("servingEngineSpec.modelSpec"):
            if spec.value("enabled") is not False:
                yield from _engine(spec, labels)
    for entry in document.items("loraAdapters"):
        if entry.value("enabled") is not False:
            yield lora_adapter(entry, "")


def _engine(spec: Document, labels: dict[str, str]) -> Iterator[SourceFacts]:
    """The engine of an entry of modelSpec; the label ``model`` of its pods is its name."""
    name = spec.needed("name")
    words = ["vllm", "serve", spec.needed("modelURL")]
    if spec.value("enableLoRA") is True:
        words.append("--enable-lora")
    config = spec.inner("vllmConfig")
    if spec.value("vllmConfig") is not None:
        words += _config_words(config)
    engine = engine_of(spec, words, variables(spec), name)
    if engine is not None:
        repository, tag = spec.text("repository"), spec.text("tag")
        if repository and tag:
            image = with_image(engine.server, f"{repository}:{tag}", spec.origin("tag"))
            engine = engine._replace(server=image)
        unread = [visible(key) for key in config.values if key not in {*_FLAGS, *_OTHERS, *_SWITCHES}]
        if unread:
            note = f"vllmConfig has {listed(unread, 5)}, which the chart makes no argument."
            server = replace(engine.server, notes=(*engine.server.notes, note))
            engine = engine._replace(server=server)
        own = {**labels, "model": name}
        yield running(
            "modelSpec",
            engine,
            own,
            spec.replicas("replicaCount"),
            device_of_terms(spec, "nodeSelectorTerms"),
        )


_SWITCHES = ("enableChunkedPrefill", "enablePrefixCaching")


def _config_words(config: Document) -> list[str]:
    """Arguments of vllmConfig, in the chart's order: extraArgs are last, and count."""
    words = []
    chunked, cached = (config.value(key) for key in _SWITCHES)
    if chunked is not None:
        words.append("--enable-chunked-prefill" if chunked else "--no-enable-chunked-prefill")
    words.append("--enable-prefix-caching" if cached else "--no-enable-prefix-caching")
    for key, flag in _FLAGS.items():
        value = config.value(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise config.wrong(key, "is no number and no text", "correct it")
        words += [flag, str(value)]
    return words + config.words("extraArgs")
