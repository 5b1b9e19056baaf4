# LeNet on the 5,000 digits that the project carries; the best checkpoint and the pictures are written to /app/output.
#
#     docker build --tag ms-callbacks .
#     docker run --rm ms-callbacks
#     docker run --rm ms-callbacks python examples/early_stopping.py
FROM python:3.11-slim

# The libraries of MindSpore need that of OpenMP, which the slim image lacks.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home trainer && install --directory --owner=trainer --group=trainer /app
WORKDIR /app

COPY LICENSE README.md pyproject.toml setup.cfg ./
COPY ms_callbacks ms_callbacks/
# What is trained with is the installed package, not the source beside the examples.
RUN pip install --no-cache-dir ".[examples]" && rm -rf build ms_callbacks ms_callbacks.egg-info

COPY examples examples/

USER trainer
CMD ["python", "examples/train_lenet.py"]
