"""Commands of the overfitted codec, which needs no training: every stream carries the weights of its decoder.

python -m overfit compress with params.lmb=0.001 params.steps=3000 input=photo.png output=photo.tsr
python -m overfit decompress with input=photo.tsr output=photo.png
python -m overfit start with dataset=photos output=start.txt      # the weights that fitting starts from
python -m overfit evaluate with dataset=kodak limit=4 points=0.004,0.001,0.0004

Everything else is as for every family: ``python -m overfit COMMAND with method=NAME ...``.
"""

from experiments.family import main

if __name__ == "__main__":
    main("overfit")
