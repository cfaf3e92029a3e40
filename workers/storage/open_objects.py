"""Which kind of store a location names: a folder, or `s3://bucket/prefix`."""

from pathlib import Path

from workers.storage.objects import NotWritable, Objects


def open_objects(location: str) -> Objects:
    """The objects at a folder or at `s3://bucket/prefix`.

    Endpoint and credentials of an object store come from the environment alone (`AWS_*`).

    Raises:
        NotWritable: the location means nothing.
    """
    # Imported here: a local run does not load the object-store client.
    if location.startswith("s3://"):
        from workers.storage.s3 import S3Objects

        return S3Objects(location)
    if "://" in location:
        raise NotWritable(
            f"{location} is neither a folder nor s3://bucket/prefix, which are the stores there are."
        )
    from workers.storage.folder import FolderObjects

    return FolderObjects(Path(location))
