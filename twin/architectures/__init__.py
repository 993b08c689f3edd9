"""What a base model is: the facts of its Hugging Face config.json, read or shipped, and its layers."""

from twin.architectures.architecture import ModelArchitecture as ModelArchitecture
from twin.architectures.facts import ArchitectureError as ArchitectureError
from twin.architectures.feed_forward import Dense as Dense
from twin.architectures.feed_forward import Experts as Experts
from twin.architectures.layers import Layer as Layer
from twin.architectures.mixers import Attention as Attention
from twin.architectures.mixers import DeltaNet as DeltaNet
from twin.architectures.mixers import LatentAttention as LatentAttention
from twin.architectures.mixers import Mamba as Mamba
from twin.architectures.mixers import Mixer as Mixer
from twin.architectures.modules import ExpertBank as ExpertBank
from twin.architectures.modules import Linear as Linear
from twin.architectures.modules import Weight as Weight
from twin.architectures.quantization import Quantization as Quantization
from twin.architectures.quantization import QuantizedGroup as QuantizedGroup
from twin.architectures.reading import read_architecture as read_architecture
from twin.architectures.shipped import find_architecture as find_architecture
from twin.architectures.shipped import shipped_architectures as shipped_architectures
