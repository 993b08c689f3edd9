"""Work dealt out: to threads and processes of this machine, or to a cluster's workers."""

from twin.parallel.clusters import ClusterAddressError as ClusterAddressError
from twin.parallel.clusters import on_cluster as on_cluster
from twin.parallel.dealing import WorkersLostError as WorkersLostError
from twin.parallel.dealing import in_processes as in_processes
from twin.parallel.dealing import in_threads as in_threads
from twin.parallel.tasks import ClusterError as ClusterError
