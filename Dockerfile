# compose-vlp on a processor, from its wheel:
#
#   docker build -t compose-vlp .
#   docker run --rm -it --shm-size=1g -v "$PWD:/work" compose-vlp demo
#
# Data workers hand batches over in /dev/shm: Docker's default of 64 MB is too small, hence --shm-size.
FROM python:3.11-slim AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --constraint constraints.txt --wheel-dir /wheels .

FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
COPY constraints.txt /tmp/constraints.txt
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt /wheels/*.whl && rm -rf /wheels \
 && useradd --create-home user
USER user
WORKDIR /work
ENTRYPOINT ["compose-vlp"]
CMD ["--help"]
