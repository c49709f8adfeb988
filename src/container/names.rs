//! Names for containers that were not given one.

const ADJECTIVES: &str = "
    able agile amber ample apt ardent astute avid balmy blithe bold brave breezy bright brisk calm candid
    careful cheerful civil clear clever cordial cosy crisp curious daring dapper deft dreamy driven eager
    earnest easy elegant exact fair fervent festive fleet fluent fond frank friendly gallant gentle genial
    gifted glad golden graceful grand happy hardy hearty helpful honest hopeful humble intent jaunty jolly
    jovial keen kind lively loyal lucid lucky mellow merry mighty mindful modest musing neat nimble noble
    patient peaceful placid playful plucky polite proud quick quiet radiant ready robust serene sharp silent
    sincere smart snug sober spirited stable steady stoic sunny swift tender thrifty tidy tranquil trusting
    upbeat valiant vivid warm wise witty zealous zesty
";

const SURNAMES: &str = "
    abel agnesi airy aitken alembert ampere anning appleton archimedes arkwright armstrong aryabhata avogadro
    babbage backus baekeland baird banach banneker bardeen bassi bayes becquerel bell bernoulli berzelius bessel
    bessemer bhabha blackwell bohr boltzmann bolyai boole borlaug born bose boyle brahe brahmagupta brattain
    braun broglie brunel bunsen bush cantor cardano carnot carson carver cauchy cavendish cayley celsius cerf
    chandrasekhar chebyshev cherenkov clarke clausius colmar compton copernicus coulomb cray crick curie cuvier
    daimler dalton darby darwin davy dedekind descartes dewar diesel diffie dijkstra dirac doppler dyson easley
    eddington edison einstein eratosthenes erdos ericsson euclid euler faraday feistel fermat fermi feynman
    fibonacci fizeau fleming foucault fourier franklin fraunhofer fresnel fulton galileo galois galvani gauss
    germain gibbs godel goddard goodall gutenberg haber hadamard halley hamilton hamming harrison harvey
    heaviside heisenberg helmholtz henry hermite herschel hertz heyrovsky hilbert hipparchus hodgkin hoare
    hollerith hooke hopper hubble humboldt hutton huygens hypatia jacobi jacquard jenner johnson joule kepler
    khayyam khwarizmi kilby knuth kolmogorov kovalevskaya lagrange lamarr landau laplace lavoisier leavitt
    legendre leibniz lenoir liebig linnaeus lister lorentz lovelace lumiere lyell mach marconi markov maxwell
    mayer mccarthy mcclintock meitner mendel mendeleev michelson milankovitch minkowski mirzakhani mobius monge
    morse napier nernst newcomen newton nightingale nobel noether ohm oersted oppenheimer papin pascal pasteur
    pauli pauling pavlov peano planck poincare poisson priestley ptolemy pythagoras raman ramanujan rankine
    rayleigh riemann ritchie roentgen rutherford sagan salk savery schrodinger shannon siemens somerville
    stephenson stokes swan tesla thales thompson torricelli trevithick turing vesalius volta wallis watson watt
    wegener weierstrass whittle wilkes wright yukawa zuse
";

/// A name made of an adjective and the surname of a scientist or an engineer.
///
/// After a few attempts that met a name in use (`attempt` counts from 0) a digit follows.
pub fn generate(random: [u8; 8], attempt: u32) -> String {
    let [a, b, c, d, e, f, g, _] = random;
    let adjective = pick(ADJECTIVES, u32::from_be_bytes([0, a, b, c]));
    let surname = pick(SURNAMES, u32::from_be_bytes([0, d, e, f]));
    let name = format!("{adjective}_{surname}");
    if attempt < 3 { name } else { format!("{name}{}", g % 10) }
}

/// The word that some byte of the list belongs to, or the next one.
fn pick(words: &'static str, number: u32) -> &'static str {
    let before = &words[..number as usize % words.len()];
    let begun = before.rsplit(char::is_whitespace).next().map_or(0, str::len);
    let from_there = words[before.len() - begun..].split_whitespace().next();
    from_there.or_else(|| words.split_whitespace().next()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_lists() {
        for (list, least) in [(ADJECTIVES, 90), (SURNAMES, 200)] {
            let words: Vec<&str> = list.split_whitespace().collect();
            assert!(words.len() >= least, "{}", words.len());
            assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), words.len(), "a word is there twice");
            assert!(words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase())));
        }
    }

    proptest! {
        #[test]
        fn names_are_valid(random: [u8; 8], attempt in 0u32..10) {
            let name = generate(random, attempt);
            let parts: Vec<&str> = name.split('_').collect();
            prop_assert_eq!(parts.len(), 2);
            prop_assert!(parts.iter().all(|part| part.len() > 1));
            prop_assert_eq!(attempt >= 3, name.ends_with(|c: char| c.is_ascii_digit()));
        }
    }
}
