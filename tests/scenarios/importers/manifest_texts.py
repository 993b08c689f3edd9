"""Manifests, routes and values that tests of their importers read."""

from __future__ import annotations

from pathlib import Path

CASE = Path(__file__).parents[1] / "data" / "kubernetes_adapters"

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: fr-engine}
spec:
  replicas: 3
  template:
    metadata: {labels: {app: fr}}
    spec:
      nodeSelector: {nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3}
      containers:
        - name: proxy
          image: envoyproxy/envoy
        - name: engine
          image: vllm/vllm-openai:v0.11.0
          env:
            - {name: RANK, value: "32"}
            - {name: HF_TOKEN, valueFrom: {secretKeyRef: {name: s, key: k}}}
          args: [--model, org/base, --max-lora-rank, $(RANK), --enable-lora, --max-loras, "4",
                 --lora-modules, fr=/adapters/fr, cost$$=/adapters/cost, --api-key, top-secret]
"""

KSERVE = """
apiVersion: serving.kserve.io/v1alpha2
kind: LLMInferenceService
metadata: {name: llama}
spec:
  replicas: 2
  parallelism: {tensor: 2}
  model:
    uri: hf://org/base
    lora:
      maxRank: 64
      adapters:
        - {name: fr, uri: hf://org/fr}
        - {name: de, uri: pvc://weights/de}
        - {name: it, uri: s3://bucket/it}
  template:
    containers:
      - name: main
        env: [{name: VLLM_ADDITIONAL_ARGS, value: "--max-model-len 4096 --max-num-seqs=64"}]
"""

GRAPHS = {
    "v1alpha1": """
apiVersion: nvidia.com/v1alpha1
kind: DynamoGraphDeployment
metadata: {name: graph}
spec:
  services:
    Frontend: {componentType: frontend, extraPodSpec: {mainContainer: {image: dynamo/vllm-runtime:1}}}
    worker:
      replicas: 2
      modelRef: {name: org/base}
      extraPodSpec:
        mainContainer:
          command: [python3, -m, dynamo.vllm]
          args: [--model, org/base, --enable-lora, --max-lora-rank, "64"]
""",
    "v1beta1": """
apiVersion: nvidia.com/v1beta1
kind: DynamoGraphDeployment
metadata: {name: graph}
spec:
  components:
    - name: Frontend
      podTemplate: {spec: {containers: [{name: main, image: dynamo/vllm-runtime:1}]}}
    - name: worker
      replicas: 2
      modelRef: {name: org/base}
      podTemplate:
        spec:
          containers:
            - name: main
              command: [python3, -m, dynamo.vllm]
              args: [--model, org/base, --enable-lora, --max-lora-rank, "64"]
""",
}

VALUES = """
servingEngineSpec:
  labels: {release: test}
  modelSpec:
    - name: base-g0
      repository: vllm/vllm-openai
      tag: v0.11.0
      modelURL: org/base
      replicaCount: 1
      requestGPU: 1
      enableLoRA: true
      vllmConfig:
        maxLoras: 4
        maxModelLen: 8192
        maxLoraRank: 128
        extraArgs: [--max-lora-rank, 64, --served-model-name=chat]
      nodeSelectorTerms:
        - matchExpressions: [{key: nvidia.com/gpu.product, operator: In, values: [NVIDIA-L40S]}]
    - {name: off, enabled: false, modelURL: org/base}
loraAdapters:
  - name: fr
    baseModel: base-g0
    adapterSource: {type: local, adapterName: fr, adapterPath: /adapters/fr}
"""

ROUTES = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  rules:
    - matches: [{headers: [{type: Exact, name: x-gateway-base-model-NAME, value: class-0}]}]
      backendRefs:
        - {group: inference.networking.k8s.io, kind: InferencePool, name: p0, weight: 3}
        - {group: inference.networking.k8s.io, kind: InferencePool, name: p1}
    - matches: [{headers: [{name: X-Gateway-Model-Name, value: it}]}]
      backendRefs: [{name: svc, port: 80}]
    - backendRefs: [{name: svc}]
"""

POOLS = """
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: p0}
spec: {selector: {matchLabels: {g: "0"}}}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferencePool
metadata: {name: p1}
spec: {selector: {g: "1"}}
---
apiVersion: v1
kind: Service
metadata: {name: svc}
spec: {selector: {all: "1"}}
"""

MODELS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: m, labels: {inference.llm-d.ai/ipp-managed: "true"}}
data:
  baseModel: class-0
  adapters: |
    - fr
    - "de: 1"
"""

LITELLM = """
model_list:
  - model_name: fr
    litellm_params: {model: hosted_vllm/fr, api_base: "http://u:pw@g0:8000/v1", api_key: sk-1, weight: 3}
  - model_name: fr
    litellm_params: {model: openai/fr, api_base: "http://g1:8000/v1/", api_key: sk-1}
  - {model_name: gpt, litellm_params: {model: azure/gpt, api_base: "https://x"}}
  - {model_name: far, litellm_params: {model: openai/far, api_base: os.environ/BASE}}
"""

DYNAMO_MODEL = """
apiVersion: nvidia.com/v1alpha1
kind: DynamoModel
metadata: {name: m}
spec: {modelName: fr, baseModelName: g0, modelType: lora, source: {uri: "hf://org/fr"}}
"""
