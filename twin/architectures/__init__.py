"""What a base model is: the facts of its Hugging Face config.json, read or shipped."""

from twin.architectures.architecture import ArchitectureError as ArchitectureError
from twin.architectures.architecture import ModelArchitecture as ModelArchitecture
from twin.architectures.architecture import find_architecture as find_architecture
from twin.architectures.architecture import read_architecture as read_architecture
from twin.architectures.architecture import shipped_architectures as shipped_architectures
