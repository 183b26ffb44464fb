//! A bzImage holds the ELF image compressed; its setup header says where (Linux, Documentation/arch/x86/boot.rst).

/// Several times the largest distribution kernel: a broken header must not ask for all memory.
const IMAGE_BYTES_MAX: usize = 512 << 20;
/// The kernel's `lz4 -l` packs blocks of this size.
const BLOCK_BYTES_MAX: usize = 8 << 20;
const LZ4_LEGACY: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
const ELF: &[u8] = b"\x7fELF";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    #[error("the image is neither an ELF file nor a bzImage")]
    NotAnImage,
    #[error("the image ends early")]
    Truncated,
    #[error("the compressed image is broken")]
    Broken,
}

/// The ELF image of an ELF file or of an LZ4 bzImage. A bzImage with another compression is returned as it is: it boots too, slower.
pub fn extract(image: Vec<u8>) -> Result<Vec<u8>, ImageError> {
    if image.starts_with(ELF) {
        return Ok(image);
    }
    let payload = payload(&image)?;
    match payload.strip_prefix(&LZ4_LEGACY) {
        Some(blocks) => unpack(blocks),
        None => Ok(image),
    }
}

fn payload(image: &[u8]) -> Result<&[u8], ImageError> {
    if image.get(0x202..0x206) != Some(b"HdrS") {
        return Err(ImageError::NotAnImage);
    }
    // Zero means four, says the boot protocol.
    let setup_sectors = match image[0x1f1] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let offset = (setup_sectors + 1) * 512 + u32_at(image, 0x248)?;
    let length = u32_at(image, 0x24c)?;
    image.get(offset..).and_then(|rest| rest.get(..length)).ok_or(ImageError::Truncated)
}

/// Blocks, each behind its compressed length; then the length of the whole.
fn unpack(mut blocks: &[u8]) -> Result<Vec<u8>, ImageError> {
    let (_, total) = blocks.split_last_chunk::<4>().ok_or(ImageError::Truncated)?;
    let total = u32::from_le_bytes(*total) as usize;
    if total > IMAGE_BYTES_MAX {
        return Err(ImageError::Broken);
    }
    let mut elf = vec![0; total];
    let mut done = 0;
    while done < total {
        let length = u32_at(blocks, 0)?;
        let block = blocks.get(4..4 + length).ok_or(ImageError::Truncated)?;
        let room = &mut elf[done..total.min(done + BLOCK_BYTES_MAX)];
        done += match lz4_flex::block::decompress_into(block, room) {
            Ok(0) | Err(_) => return Err(ImageError::Broken),
            Ok(bytes) => bytes,
        };
        blocks = &blocks[4 + length..];
    }
    if elf.starts_with(ELF) { Ok(elf) } else { Err(ImageError::Broken) }
}

fn u32_at(bytes: &[u8], at: usize) -> Result<usize, ImageError> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()).ok_or(ImageError::Truncated)?;
    Ok(u32::from_le_bytes(*word) as usize)
}
