"""``python -m experiments.studies.gpu_training pack|run|export|join``."""

import sys

from experiments.studies.gpu_training import main

sys.exit(main())
