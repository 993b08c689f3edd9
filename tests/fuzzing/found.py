"""Damages that `benchmarks/fuzz_inputs.py` found to lead to what must not be, beyond those always tried."""

FOUND = {
    "profile": (2378, 3758, 9043),
    "schedule": (6912,),
    "trace of a list": (2430, 4381, 5806, 5823, 7959, 8865, 9916),
    "ServeGen's lengths": (7535,),
    "calibration folder, serving_runs.csv": (7922,),
    "calibration folder, probes.csv": (4220,),
    "calibration folder, length_histograms.csv": (3692, 3820),
    "calibration, probes.csv": (67,),
    "surrogate": (2943,),
    "configuration of Ray Serve LLM": (6945, 9005),
    "request log, packed": (6228, 6436),
    "folder of measure, stages/run_1.json": (4077, 4134, 4761),
}
"""Numbers of damages by the kind of file; all are repaired."""
