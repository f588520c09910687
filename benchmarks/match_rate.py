"""The operating point of a method at a rate or a quality, found by measuring real files.

    python benchmarks/match_rate.py with method=jpeg target_bpp=0.25                       # embedded images
    python benchmarks/match_rate.py with method=qres3m_vr target_psnr=30 dataset=kodak limit=4
    python benchmarks/match_rate.py with method=jpeg params.subsampling=4:4:4 target_psnr=35 dataset=folder:photos
    python benchmarks/match_rate.py with method=mcquic_small target_bpp=0.5                # weights for each point
    python benchmarks/match_rate.py with method=jpeg target_bpp=0.25,0.5                   # several at once
    python benchmarks/match_rate.py with method=jpeg target_bpp=jpeg_ai dataset=kodak      # 0.06, 0.12, 0.25, 0.5, 0.75

A continuous setting (JPEG's quality, the lambda of a variable-rate model) is bisected; a method with weights for each
point has only its points. Rate and PSNR are means over the images, as in every table. The answer says when the target
is out of range or lies between two settings, and gives those. What the search measures is kept in <results>/match_rate,
away from the curves, and neither that nor any cell of <results> is measured again.

jpeg_ai stands for the rates at which JPEG AI's common test conditions compare codecs.

Exit code 0 when every target is met or lies between two settings, 1 when one is out of range.
"""

from __future__ import annotations

from experiments.match_rate import match_config, match_rate
from experiments.wiring import experiment, guarded, run

ex = experiment(__file__, "match_rate", match_config)
ex.main(guarded(match_rate))

if __name__ == "__main__":
    run(ex)
